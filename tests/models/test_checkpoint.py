"""Checkpoints that lack something: each error says where and what to do, before any weight is read."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from selfie.errors import ModelError, UserError
from selfie.models.checkpoint import Checkpoint


@pytest.fixture
def folder(tiny_checkpoint: Checkpoint, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(tiny_checkpoint.source, tmp_path / "model"))


def without_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def without_eos(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token": None}))


def with_pickled_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def with_broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")


BROKEN = {
    "missing folder": (shutil.rmtree, "does not exist", "globals.yml"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "no config.json", "save model"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "no weights in safetensors", "save model"),
    "only a pickle": (with_pickled_weights, "no weights in safetensors", "save model"),
    "no tokenizer": (lambda folder: (folder / "tokenizer_config.json").unlink(), "no tokenizer", "save model"),
    "broken tokenizer": (with_broken_tokenizer, "tokenizer can't be read", "save_pretrained"),
    "no chat template": (without_template, "no chat template", "instruction-tuned"),
    "no eos": (without_eos, "no eos_token", "set tokenizer.eos_token"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_missing_is_named(folder: Path, case: str):
    break_it, problem, remedy = BROKEN[case]
    break_it(folder)
    with pytest.raises(ModelError) as caught:
        Checkpoint(str(folder)).load_tokenizer()
    assert caught.value.where == str(folder)
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy


def test_pickles_are_never_loaded(folder: Path):
    """Even where nobody checked the files first: a pickle can run code."""
    with_pickled_weights(folder)
    with pytest.raises(OSError, match="safetensors"):
        Checkpoint(str(folder)).load_model(torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_whole_checkpoint_loads(folder: Path, dtype: torch.dtype):
    model = Checkpoint(str(folder)).load_model(dtype)
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}


def test_padding_falls_back_to_eos(folder: Path):
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pad_token": None}))
    tokenizer = Checkpoint(str(folder)).load_tokenizer()
    assert tokenizer.pad_token_id == tokenizer.eos_token_id


def test_errors_survive_a_process_border():
    """Workers send them back pickled; where, what and remedy must still be there."""
    import pickle

    error: UserError = pickle.loads(pickle.dumps(ModelError("models/a", "it is broken", "mend it")))
    assert isinstance(error, ModelError)
    assert (error.where, error.problem, error.remedy) == ("models/a", "it is broken", "mend it")
    assert str(error) == "models/a: it is broken\n  → mend it"
    assert error.exit_code == 2
