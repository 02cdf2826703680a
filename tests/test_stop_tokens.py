"""Which tokens end a response."""

import json
from pathlib import Path
from typing import Any

import pytest

from selfie.checkpoints import Checkpoint
from selfie.errors import ModelError
from selfie.stop_tokens import stop_token_ids
from selfie.world.language import CHAT_TEMPLATE, make_tokenizer

USER, ASSISTANT = 3, 4
ENDED = CHAT_TEMPLATE.replace("{% endfor %}", "{{ '<user>' if m['role'] == 'assistant' }}{% endfor %}")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    """Files alone: no weights are read."""
    make_tokenizer().save_pretrained(tmp_path)
    return Checkpoint(str(tmp_path))


def write(checkpoint: Checkpoint, name: str, eos: Any) -> None:
    (Path(checkpoint.source) / f"{name}.json").write_text(json.dumps({"eos_token_id": eos}))


def test_all_that_the_model_names(checkpoint: Checkpoint):
    """One in each of the tokenizer, the two files and the template, which ends an answer with ``<user>`` here."""
    tokenizer = make_tokenizer()
    assert stop_token_ids(checkpoint, tokenizer) == [tokenizer.eos_token_id]
    write(checkpoint, "config", 70)
    write(checkpoint, "generation_config", [60, tokenizer.eos_token_id])
    tokenizer.chat_template = ENDED
    assert stop_token_ids(checkpoint, tokenizer) == sorted([tokenizer.eos_token_id, USER, 60, 70])


def test_a_file_may_name_none(checkpoint: Checkpoint):
    write(checkpoint, "config", None)
    (Path(checkpoint.source) / "generation_config.json").write_text("{}")
    assert stop_token_ids(checkpoint, make_tokenizer()) == [make_tokenizer().eos_token_id]


@pytest.mark.parametrize("value", ["</s>", [1, None], 1.5, True, {"id": 1}])
def test_what_is_no_token_is_refused(checkpoint: Checkpoint, value: Any):
    write(checkpoint, "generation_config", value)
    with pytest.raises(ModelError, match=r"eos_token_id in generation_config\.json"):
        stop_token_ids(checkpoint, make_tokenizer())
