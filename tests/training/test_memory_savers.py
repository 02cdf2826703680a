"""Gradient checkpointing, moments of 8 bits and weights of 4: less memory, and what that leaves as it was."""

import importlib.util
import logging
from pathlib import Path

import pytest
import torch
from test_checkpointing import PARAMETERS, killed_at, run
from test_lora import LORA, assert_only_linear_layers_changed, weights
from test_trainer import BETA

from selfie.config.training import TrainingParameters
from selfie.errors import ConfigurationError
from selfie.models.checkpoint import Checkpoint
from selfie.training import trainer as trainer_module
from selfie.training.train import train
from selfie.training.trainer import NoiseAwareTrainer
from selfie.training.trainer_settings import check_libraries

CHECKPOINTED = {"gradient_checkpointing": True}
QLORA = {"lora_base": "nf4", "learning_rate": 1e-3}
with_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed: make quantised"
)


def changed(parameters: TrainingParameters, **changes) -> TrainingParameters:
    return TrainingParameters.model_validate(parameters.model_dump() | changes)


@pytest.fixture
def watched(monkeypatch) -> list[NoiseAwareTrainer]:
    """The trainers that are made, as they are when they have been made."""
    made = []
    create = NoiseAwareTrainer.__init__

    def watch(self, *args, **kwargs):
        create(self, *args, **kwargs)
        made.append(self)

    monkeypatch.setattr(NoiseAwareTrainer, "__init__", watch)
    return made


@pytest.mark.parametrize("precision", ["float32", "mixed"])
@pytest.mark.parametrize("parameters", [PARAMETERS, LORA], ids=["all weights", "adapters"])
def test_computing_layers_again_changes_nothing(
    tiny_checkpoint: Checkpoint, pairs, tmp_path: Path, parameters, precision
):
    """To the byte, with several responses after one prompt in a row: the recomputation attends along the same paths."""

    def trained(folder: str, parameters: TrainingParameters) -> tuple[bytes, list]:
        policy, log = train(tiny_checkpoint, pairs, parameters, BETA, 1, 5, tmp_path / folder, precision)
        return (Path(policy.source) / "model.safetensors").read_bytes(), log

    assert trained("again", changed(parameters, **CHECKPOINTED)) == trained("plain", parameters)


def test_layers_keep_less_for_the_backward_pass(tiny_checkpoint: Checkpoint, pairs, tmp_path: Path, monkeypatch):
    """Bytes that autograd saves in a micro-batch, each storage once."""

    def saved(parameters: TrainingParameters) -> int:
        storages: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        forward = trainer_module.response_log_probs

        def counted(model, rows):
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                return forward(model, rows)

        monkeypatch.setattr(trainer_module, "response_log_probs", counted)
        train(
            tiny_checkpoint, pairs, parameters, BETA, 1, seed=5, workspace=tmp_path / str(len(list(tmp_path.iterdir())))
        )
        monkeypatch.setattr(trainer_module, "response_log_probs", forward)
        return sum(storages.values())

    once = changed(PARAMETERS, epochs=1)
    assert saved(changed(once, **CHECKPOINTED)) < 0.6 * saved(once)


@with_bitsandbytes
def test_moments_of_8_bits(tiny_checkpoint: Checkpoint, pairs, tmp_path: Path, watched):
    """bitsandbytes keeps small tensors in 32 bits; the policy is near the one of AdamW, and goes on after a kill."""
    eighth = changed(PARAMETERS, optimizer="adamw_8bit")
    policy, log = train(tiny_checkpoint, pairs, eighth, BETA, 1, seed=5, workspace=tmp_path / "whole")
    assert type(watched[0].optimizer.optimizer).__module__.startswith("bitsandbytes.")
    exact, _ = train(tiny_checkpoint, pairs, PARAMETERS, BETA, 1, seed=5, workspace=tmp_path / "exact")
    start, near, far = map(weights, (tiny_checkpoint, policy, exact))
    for name, weight in start.items():
        moved = (far[name] - weight).norm()
        assert (near[name] - far[name]).norm() <= 0.2 * moved, name
    killed_at(3, tiny_checkpoint, pairs, tmp_path / "killed", eighth)
    assert run(tiny_checkpoint, pairs, tmp_path / "killed", eighth) == (
        (Path(policy.source) / "model.safetensors").read_bytes(),
        log,
    )


@with_bitsandbytes
def test_weights_of_4_bits(tiny_checkpoint: Checkpoint, pairs, tmp_path: Path, watched, caplog):
    """The layers' weights are packed while adapters in float32 are trained beside them, merged into the whole ones."""
    caplog.set_level(logging.INFO)
    policy, log = train(tiny_checkpoint, pairs, changed(LORA, **QLORA), BETA, 1, seed=5, workspace=tmp_path)
    packed = [weight for weight in watched[0].policy.parameters() if type(weight).__name__ == "Params4bit"]
    assert len(packed) == 7 * watched[0].policy.config.num_hidden_layers
    assert {weight.dtype for weight in watched[0].model.parameters() if weight.requires_grad} == {torch.float32}
    assert [row["margin"] for row in log if row["step"] == 0] == [0] * LORA.batch_size
    killed_at(3, tiny_checkpoint, pairs, tmp_path / "killed", changed(LORA, **QLORA))
    assert run(tiny_checkpoint, pairs, tmp_path / "killed", changed(LORA, **QLORA))[1] == log
    assert_only_linear_layers_changed(weights(tiny_checkpoint), weights(policy))


def test_weights_of_4_bits_need_adapters():
    with pytest.raises(ValueError, match="lora_base nf4 is for adapters: set lora_rank"):
        changed(PARAMETERS, lora_base="nf4")


@pytest.mark.parametrize(
    ("changes", "parameter"),
    [({"optimizer": "adamw_8bit"}, "training.optimizer"), ({"lora_rank": 4, **QLORA}, "training.lora_base")],
)
def test_without_bitsandbytes(monkeypatch, changes, parameter):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="bitsandbytes' work, which is not installed") as caught:
        check_libraries("training", changed(PARAMETERS, **changes))
    assert caught.value.where == parameter
    check_libraries("training", PARAMETERS)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_paging_without_a_gpu():
    with pytest.raises(ConfigurationError, match="there is no GPU"):
        check_libraries("training", changed(PARAMETERS, optimizer="paged_adamw_8bit"))
