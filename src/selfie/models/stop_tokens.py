"""Stop tokens: where a response ends.

Chat models often have several, and no one place names them all. Llama 3 stops at ``<|end_of_text|>`` and at
``<|eot_id|>``, of which the tokenizer names one and ``generation_config.json`` both; tuned models end a turn as their
chat template does, whatever their files say.
"""

import json
from pathlib import Path

from transformers import PreTrainedTokenizerBase
from transformers.utils import cached_file

from selfie.errors import ModelError
from selfie.models.chat_template import turn_end
from selfie.models.checkpoint import Checkpoint

FILES = ("generation_config.json", "config.json")


def stop_token_ids(checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The model's end-of-sequence tokens, in order: its files', its tokenizer's and its chat template's.

    Raises:
        ModelError: a file names something else than token ids.
    """
    named = {token for name in FILES for token in _named_in(checkpoint, name)}
    return sorted(named | {tokenizer.eos_token_id, turn_end(tokenizer)})


def _named_in(checkpoint: Checkpoint, name: str) -> list[int]:
    try:
        file = cached_file(checkpoint.source, name, revision=checkpoint.revision)
    except OSError:  # not every model has a generation_config.json
        file = None
    if file is None:
        return []
    # As it is in the file: a configuration's class fills in what the file leaves out.
    value = json.loads(Path(file).read_text(encoding="utf-8")).get("eos_token_id")
    tokens = [] if value is None else value if isinstance(value, list) else [value]
    if not all(type(token) is int for token in tokens):
        raise ModelError(
            checkpoint.source,
            f"eos_token_id in {name} is {value!r:.80}",
            "write a token id, or a list of them",
        )
    return tokens
