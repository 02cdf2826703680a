"""Which tokens end a response."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from selfie.errors import ModelError
from selfie.generation.engine import Sampling
from selfie.generation.sampling import sample_responses
from selfie.models.checkpoint import Checkpoint
from selfie.models.stop_tokens import stop_token_ids
from selfie.synthetic.language import CHAT_TEMPLATE, make_tokenizer

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


def test_the_token_that_ends_a_response_is_not_in_its_text(tiny_checkpoint: Checkpoint, tmp_path: Path):
    """Words 40 to 59 end a response here: its ids hold one, its text none."""
    stopping = Checkpoint(str(shutil.copytree(tiny_checkpoint.source, tmp_path / "model")))
    write(stopping, "generation_config", [*range(40, 60)])
    prompts = Dataset.from_list([{"prompt_id": "p", "messages": [{"role": "user", "content": "t0a"}]}])
    how = {"engine": "transformers", "batch_tokens": 4000, "max_length": 64, "purpose": "test", "seed": 0}
    rows = sample_responses(stopping, prompts, 20, Sampling(1.0, 1.0, 12), **how)
    words = set(make_tokenizer().convert_ids_to_tokens(list(range(40, 60))))
    assert sum(row["response_ids"][-1] in range(40, 60) for row in rows) > 5
    assert not any(words & set(row["response"].split()) for row in rows)


@pytest.mark.parametrize("value", ["</s>", [1, None], 1.5, True, {"id": 1}])
def test_what_is_no_token_is_refused(checkpoint: Checkpoint, value: Any):
    write(checkpoint, "generation_config", value)
    with pytest.raises(ModelError, match=r"eos_token_id in generation_config\.json"):
        stop_token_ids(checkpoint, make_tokenizer())
