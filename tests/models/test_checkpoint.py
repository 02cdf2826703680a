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


@pytest.mark.parametrize(
    ("missing", "problem"),
    [
        ("config.json", "no config.json"),
        ("model.safetensors", "no weights in safetensors"),
        ("tokenizer_config.json", "no tokenizer"),
    ],
)
def test_what_is_missing_is_named(folder: Path, missing: str, problem: str):
    """For what is broken see tests/bad_inputs.py."""
    (folder / missing).unlink()
    with pytest.raises(ModelError) as caught:
        Checkpoint(str(folder)).load_tokenizer()
    assert caught.value.where == str(folder)
    assert problem in caught.value.problem
    assert "save model" in caught.value.remedy


def test_pickles_are_never_loaded(folder: Path):
    """Even where nobody checked the files first: a pickle can run code."""
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
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
