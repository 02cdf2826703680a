"""What goes wrong in a training: a signal, a loss that is not finite, a full disk, a clock that jumps."""

import math
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
from test_checkpointing import PARAMETERS, SignalAt, add_to_trainings, run
from transformers import TrainerCallback

from faults import in_a_child, room_for
from selfie.errors import DivergenceError, MemoryExhaustedError, StorageError
from selfie.errors.disk_and_memory import explain
from selfie.models.checkpoint import Checkpoint
from selfie.runtime.signals import exit_on_sigterm
from selfie.storage.commit import verify
from selfie.training.trainer import NoiseAwareTrainer


@pytest.mark.parametrize("step", [3, 8])
def test_sigterm_in_a_training_saves_a_checkpoint(
    tiny_checkpoint: Checkpoint,
    pairs,
    uninterrupted,
    tmp_path: Path,
    step: int,
):
    """Also where no checkpoint is due, and at the last step; the resumed training ends with the same bytes."""
    parameters = PARAMETERS.model_copy(update={"checkpoint_steps": 100})

    def work() -> None:
        add_to_trainings(SignalAt(step, signal.SIGTERM))
        with exit_on_sigterm():
            run(tiny_checkpoint, pairs, tmp_path, parameters)

    began = time.monotonic()
    assert os.waitstatus_to_exitcode(in_a_child(work)) == 128 + signal.SIGTERM
    assert time.monotonic() - began < 60
    verify(tmp_path / f"checkpoint-{step}")
    assert not (tmp_path / "policy").exists()
    assert run(tiny_checkpoint, pairs, tmp_path, parameters) == uninterrupted


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_its_step(
    tiny_checkpoint: Checkpoint,
    pairs,
    uninterrupted,
    tmp_path: Path,
    bad: float,
):
    """One pair's weight is broken; the state before its step stays, and goes on once the pair is mended."""
    broken = uninterrupted[1][-1]["pair"]
    first = min(entry["step"] for entry in uninterrupted[1] if entry["pair"] == broken)
    rows = pairs.add_column("weight", [bad if row["pair"] == broken else 1.0 for row in pairs])
    parameters = PARAMETERS.model_copy(update={"checkpoint_steps": 1})
    with pytest.raises(DivergenceError, match=f"step {first + 1}, pairs {broken}.*loss is not finite") as caught:
        run(tiny_checkpoint, rows, tmp_path, parameters)
    assert f"the last good state is step {first} " in str(caught.value)
    assert caught.value.exit_code == 5
    assert not (tmp_path / "policy").exists()
    assert [folder.name for folder in tmp_path.glob("checkpoint-*")] == ([f"checkpoint-{first}"] if first else [])
    assert run(tiny_checkpoint, pairs, tmp_path, parameters) == uninterrupted


def test_weights_that_run_away_are_noticed(tiny_checkpoint: Checkpoint, pairs, tmp_path: Path):
    """A learning rate at which the second step sees infinite weights."""
    parameters = PARAMETERS.model_copy(update={"learning_rate": 1e38, "learning_rate_warmup": 0.0})
    with pytest.raises(DivergenceError, match="is not finite"):
        run(tiny_checkpoint, pairs, tmp_path, parameters)


def test_a_full_disk_in_a_training_keeps_the_last_checkpoint(
    tiny_checkpoint: Checkpoint,
    pairs,
    uninterrupted,
    tmp_path: Path,
    small_disk: Path,
):
    """The disk has room for one checkpoint; with more room the training goes on."""
    with pytest.raises(Exception) as caught:
        run(tiny_checkpoint, pairs, small_disk)
    known = explain(caught.value)
    assert isinstance(known, StorageError), caught.value
    shutil.copytree(small_disk, tmp_path / "room")
    assert run(tiny_checkpoint, pairs, tmp_path / "room") == uninterrupted


def test_a_clock_that_jumps_back_picks_the_newest_checkpoint_all_the_same(
    tiny_checkpoint: Checkpoint,
    pairs,
    uninterrupted,
    tmp_path: Path,
):
    """Files of the newest checkpoint are older than the oldest's: steps count, not times."""

    class JumpingClock(TrainerCallback):
        def on_save(self, args, state, control, **kwargs):
            folder = tmp_path / f"checkpoint-{state.global_step}"
            then = 2_000_000_000 - 100_000 * state.global_step
            for file in (*folder.iterdir(), folder):
                os.utime(file, (then, then))
            if state.global_step == 6:
                os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        add_to_trainings(JumpingClock())
        run(tiny_checkpoint, pairs, tmp_path)

    assert os.WTERMSIG(in_a_child(work)) == signal.SIGKILL
    assert [folder.name for folder in tmp_path.glob("checkpoint-*")] == ["checkpoint-6"]
    assert run(tiny_checkpoint, pairs, tmp_path) == uninterrupted


def test_out_of_memory_the_step_begins_anew_in_smaller_micro_batches(
    tiny_checkpoint: Checkpoint, pairs, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Two pairs at once are too many where four are planned; the same bytes as with small ones from the beginning."""
    large = PARAMETERS.model_copy(update={"batch_tokens": 10**6})
    with room_for(1, NoiseAwareTrainer, "_compute_loss", size=lambda _, __, inputs, *___: len(inputs["pairs"])):
        halved = run(tiny_checkpoint, pairs, tmp_path / "large", large)
    budgets = [int(found) for found in re.findall(r"out of memory in training.*batch_tokens (\d+)", caplog.text)]
    assert budgets == sorted(set(budgets), reverse=True)
    assert budgets
    assert halved == run(tiny_checkpoint, pairs, tmp_path / "small", PARAMETERS.model_copy(update={"batch_tokens": 1}))


def test_a_pair_that_does_not_fit_alone_ends_the_training(
    tiny_checkpoint: Checkpoint, pairs, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """The longest pair asks for too much, in whatever micro-batch it is."""
    lengths = [len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in pairs]
    longest = lengths.index(max(lengths))

    def greedy(_: NoiseAwareTrainer, __: object, inputs: dict, *___: object) -> int:
        return sum(pair.number == longest for pair in inputs["pairs"])

    large = PARAMETERS.model_copy(update={"batch_tokens": 10**6})
    no_room = room_for(0, NoiseAwareTrainer, "_compute_loss", size=greedy)
    with no_room, pytest.raises(RuntimeError, match="allocate") as caught:
        run(tiny_checkpoint, pairs, tmp_path, large)
    assert isinstance(explain(caught.value), MemoryExhaustedError)
    budgets = [int(found) for found in re.findall(r"out of memory in training.*batch_tokens (\d+)", caplog.text)]
    assert budgets == sorted(set(budgets), reverse=True)
    assert len(budgets) > 1
