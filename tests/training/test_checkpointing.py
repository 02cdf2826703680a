"""A training that is killed goes on from its last checkpoint and ends with the same bytes."""

import logging
import os
import signal
from pathlib import Path

import pytest
from test_trainer import BETA, PLAIN
from transformers import TrainerCallback

from faults import in_a_child
from selfie.config.training import TrainingParameters
from selfie.models.checkpoint import Checkpoint
from selfie.training import trainer
from selfie.training.train import train
from selfie.training.trainer import NoiseAwareTrainer

# Detector and extrapolation on, two epochs of 4 steps, two micro-batches a step, the last ones smaller.
PARAMETERS = PLAIN.model_copy(
    update={
        "epochs": 2,
        "batch_tokens": 64,
        "label_smoothing": 0.3,
        "noise_percentile": 30.0,
        "detector_window": 6,
        "detector_warmup": 0.25,
        "checkpoint_steps": 2,
    }
)


def run(start: Checkpoint, pairs, workspace: Path, parameters: TrainingParameters = PARAMETERS):
    policy, log = train(start, pairs, parameters, BETA, iteration=1, seed=5, workspace=workspace)
    return (Path(policy.source) / "model.safetensors").read_bytes(), log


class SignalAt(TrainerCallback):
    """Sends this very process a real signal at the end of a step."""

    def __init__(self, step: int, number: signal.Signals):
        self.step, self.number = step, number

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            os.kill(os.getpid(), self.number)


def add_to_trainings(callback: TrainerCallback) -> None:
    """Every training of this process has the callback from now on, before its own."""
    create = NoiseAwareTrainer.__init__

    def with_callback(self, *args, **kwargs):
        create(self, *args, **kwargs)
        self.callback_handler.callbacks.insert(0, callback)

    NoiseAwareTrainer.__init__ = with_callback  # type: ignore[method-assign]


def killed_at(step: int, *arguments) -> None:
    """Trains in a child process that dies at the end of this step."""

    def work() -> None:
        add_to_trainings(SignalAt(step, signal.SIGKILL))
        run(*arguments)

    assert os.WTERMSIG(in_a_child(work)) == signal.SIGKILL


@pytest.mark.parametrize(("steps", "left"), [((1,), None), ((8,), 6), ((3, 5, 7), 6)])
def test_a_killed_training_ends_with_the_same_bytes(
    tiny_checkpoint: Checkpoint, pairs, uninterrupted, tmp_path: Path, steps: tuple[int, ...], left: int | None
):
    """Killed before the first checkpoint, at the last step, and again and again, in the first and second epoch."""
    for step in steps:
        killed_at(step, tiny_checkpoint, pairs, tmp_path)
    assert [int(folder.name.split("-")[1]) for folder in tmp_path.glob("checkpoint-*")] == [left] * (left is not None)
    weights, log = run(tiny_checkpoint, pairs, tmp_path)
    assert log == uninterrupted[1]
    assert weights == uninterrupted[0]
    assert any(entry["flagged"] for entry in log)  # else the detector's window would not be tested


@pytest.mark.parametrize("torn", ["optimizer.pt", "manifest.json"])
def test_a_torn_checkpoint_is_set_aside_and_named(
    tiny_checkpoint: Checkpoint, pairs, uninterrupted, tmp_path: Path, caplog, torn: str
):
    """A file of it is cut in half, as a crash may leave it; without an older one, training begins anew."""
    killed_at(3, tiny_checkpoint, pairs, tmp_path)
    file = tmp_path / "checkpoint-2" / torn
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with caplog.at_level(logging.WARNING):
        weights, log = run(tiny_checkpoint, pairs, tmp_path)
    assert "checkpoint-2" in caplog.text
    assert "set aside" in caplog.text
    assert (tmp_path / ".torn-checkpoint-2").is_dir()
    assert (weights, log) == uninterrupted


def test_killed_while_a_checkpoint_is_written(
    tiny_checkpoint: Checkpoint, pairs, uninterrupted, tmp_path: Path, caplog
):
    """The older checkpoint is still there, and the newer one without its manifest does not count."""
    seal = trainer.seal_checkpoint

    def dying_seal(folder: Path, state: dict) -> None:
        if folder.name == "checkpoint-4":
            os.kill(os.getpid(), signal.SIGKILL)
        seal(folder, state)

    def work() -> None:
        trainer.seal_checkpoint = dying_seal
        run(tiny_checkpoint, pairs, tmp_path)

    assert os.WTERMSIG(in_a_child(work)) == signal.SIGKILL
    assert {folder.name for folder in tmp_path.glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-4"}
    with caplog.at_level(logging.WARNING):
        assert run(tiny_checkpoint, pairs, tmp_path) == uninterrupted
    assert (tmp_path / ".torn-checkpoint-4").is_dir()
    assert "checkpoint-2" not in caplog.text
