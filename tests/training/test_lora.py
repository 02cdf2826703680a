"""LoRA: only adapters are trained, the frozen weights are the reference, and the policy comes out merged."""

import logging
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_checkpointing import PARAMETERS, killed_at, run
from test_trainer import BETA
from transformers import Mamba2Config, Mamba2ForCausalLM

from selfie.errors import ConfigurationError
from selfie.models.checkpoint import Checkpoint
from selfie.scoring.log_probs import response_hidden
from selfie.training import trainer
from selfie.training.lora import merged
from selfie.training.train import train

LORA = PARAMETERS.model_copy(update={"lora_rank": 4, "lora_alpha": 8, "learning_rate": 1e-2})


def weights(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return load_file(Path(checkpoint.source) / "model.safetensors")


def assert_only_linear_layers_changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> None:
    """Each of them, and by no more than the adapters' rank allows."""
    assert after.keys() == before.keys()
    for name, weight in before.items():
        change = after[name] - weight
        if name.endswith("_proj.weight"):
            assert 0 < torch.linalg.matrix_rank(change, rtol=1e-3) <= LORA.lora_rank, name
        else:
            assert not change.any(), name


@pytest.fixture
def mamba(tiny_checkpoint: Checkpoint, tmp_path: Path) -> Checkpoint:
    """A model without attention, with the synthetic language's vocabulary."""
    tokenizer = tiny_checkpoint.load_tokenizer()
    sizes = {"vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 1, "state_size": 8, "n_groups": 1}
    folder = tmp_path / "mamba"
    Mamba2ForCausalLM(Mamba2Config(**sizes, num_heads=4, head_dim=16, expand=2)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Checkpoint(str(folder))


@pytest.fixture(scope="module")
def trained(tiny_checkpoint: Checkpoint, pairs, tmp_path_factory) -> tuple[Checkpoint, list[dict]]:
    return train(tiny_checkpoint, pairs, LORA, BETA, 1, seed=5, workspace=tmp_path_factory.mktemp("lora"))


def test_linear_layers_change_by_what_their_rank_allows(tiny_checkpoint: Checkpoint, trained):
    """All of them, and nothing else; the policy has no adapters left."""
    after = weights(trained[0])
    assert_only_linear_layers_changed(weights(tiny_checkpoint), after)
    assert {value.dtype for value in after.values()} == {torch.float32}


def test_the_margin_begins_at_zero_and_grows(trained):
    """Adapters begin as nothing, so that the first step's policy is the reference."""
    log = trained[1]
    first = [row["margin"] for row in log if row["step"] == 0]
    last = [row["margin"] for row in log if row["step"] == log[-1]["step"]]
    assert first == [0] * len(first)
    assert sum(last) / len(last) > sum(first) / len(first) + 0.5


@pytest.mark.parametrize(("learning_rate", "swallowed"), [(1e-2, False), (1e-6, True)])
def test_what_bf16_swallows_is_said(
    tiny_checkpoint: Checkpoint, pairs, tmp_path: Path, caplog: pytest.LogCaptureFixture, learning_rate, swallowed
):
    """The start's weights lie on bf16's grid, as a hub's do: changes of less than half a step come to nothing."""
    caplog.set_level(logging.INFO)
    start = Checkpoint(str(tmp_path / "start"))
    tiny_checkpoint.load_model(torch.bfloat16).save_pretrained(start.source)
    tiny_checkpoint.load_tokenizer().save_pretrained(start.source)
    train(start, pairs, LORA.model_copy(update={"learning_rate": learning_rate}), BETA, 1, 5, tmp_path / "run")
    assert "adapters changed 100% of the weights of the layers" in caplog.text
    assert ("in which the policy is sampled, keeps 0% of what was trained" in caplog.text) is swallowed


def test_no_second_model_is_loaded(tiny_checkpoint: Checkpoint, pairs, tmp_path: Path, monkeypatch):
    loaded: list[torch.dtype] = []
    load = Checkpoint.load_model
    monkeypatch.setattr(
        Checkpoint, "load_model", lambda self, dtype, device=None: (loaded.append(dtype), load(self, dtype, device))[1]
    )
    train(tiny_checkpoint, pairs, LORA, BETA, 1, seed=5, workspace=tmp_path)
    assert loaded == [torch.float32] * 2  # the second to be merged, after the training


def test_the_reference_is_the_model_without_its_adapters(
    tiny_checkpoint: Checkpoint, pairs, tmp_path: Path, monkeypatch
):
    """Its hidden states, as the detector gets them in the last step, are those of a fresh copy of the start."""
    start = tiny_checkpoint.load_model(torch.float32)
    compared = []

    def compare(policy, rows):
        hidden = response_hidden(policy, rows)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=torch.is_autocast_enabled("cpu")):
            compared.append(torch.equal(hidden, response_hidden(start, rows)))
        return hidden

    monkeypatch.setattr(trainer, "response_hidden", compare)
    monkeypatch.setattr(trainer, "share_prompts", lambda *_: False)
    train(tiny_checkpoint, pairs, LORA, BETA, 1, seed=5, workspace=tmp_path)
    assert compared
    assert all(compared)


def test_merging_copies_one_matrix_at_a_time(tiny_checkpoint: Checkpoint, trained, monkeypatch):
    """At 7B a copy of all of them would be another 28 GB. Two may be alive: the last one's, and the next."""
    copies: list[weakref.ref[torch.Tensor]] = []
    alive = []
    clone = torch.Tensor.clone

    def counted(self: torch.Tensor, **options) -> torch.Tensor:
        copy = clone(self, **options)
        copies.append(weakref.ref(copy))
        alive.append(sum(copy() is not None for copy in copies))
        return copy

    monkeypatch.setattr(torch.Tensor, "clone", counted)
    merged(tiny_checkpoint, Path(trained[0].source).parent / "adapters")
    assert len(copies) >= 2 * 7  # two layers, seven matrices each
    assert max(alive) <= 2


def test_a_model_that_takes_no_adapters(mamba: Checkpoint, pairs, tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"(?s)lora_rank.*takes no adapters.*out_proj.*set them to 0"):
        train(mamba, pairs, LORA, BETA, 1, seed=5, workspace=tmp_path)


def test_a_killed_training_ends_with_the_same_bytes(tiny_checkpoint: Checkpoint, pairs, tmp_path: Path):
    uninterrupted = run(tiny_checkpoint, pairs, tmp_path / "whole", LORA)
    killed_at(5, tiny_checkpoint, pairs, tmp_path / "killed", LORA)
    (left,) = (tmp_path / "killed").glob("checkpoint-*")
    assert (left / "adapter_model.safetensors").exists()
    assert not (left / "model.safetensors").exists()
    assert run(tiny_checkpoint, pairs, tmp_path / "killed", LORA) == uninterrupted
