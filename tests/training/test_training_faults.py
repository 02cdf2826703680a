"""What goes wrong in a training: a signal, a loss that is not finite, a full disk, a clock that jumps."""

import math
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
from test_checkpointing import PARAMETERS, run
from transformers import TrainerCallback

from faults import in_a_child, within_memory
from selfie.checkpoints import Checkpoint
from selfie.datasets.commit import verify
from selfie.errors import DivergenceError, StorageError
from selfie.failures import explain
from selfie.termination import orderly_exit
from selfie.training.trainer import NoiseAwareTrainer

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


class SignalAt(TrainerCallback):
    """Sends this very process a signal at the end of a step."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


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
        create = NoiseAwareTrainer.__init__

        def with_signal(self, *args, **kwargs):
            create(self, *args, **kwargs)
            self.callback_handler.callbacks.insert(0, SignalAt(step))

        NoiseAwareTrainer.__init__ = with_signal  # type: ignore[method-assign]
        with orderly_exit():
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
    """One pair's reference is broken; the state before its step stays, and goes on once the pair is mended."""
    broken = uninterrupted[1][-1]["pair"]
    first = min(entry["step"] for entry in uninterrupted[1] if entry["pair"] == broken)
    values = [bad if row["pair"] == broken else row["reference_rejected_log_prob"] for row in pairs]
    rows = pairs.remove_columns("reference_rejected_log_prob").add_column("reference_rejected_log_prob", values)
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
        create = NoiseAwareTrainer.__init__

        def with_clock(self, *args, **kwargs):
            create(self, *args, **kwargs)
            self.add_callback(JumpingClock())

        NoiseAwareTrainer.__init__ = with_clock  # type: ignore[method-assign]
        run(tiny_checkpoint, pairs, tmp_path)

    assert os.WTERMSIG(in_a_child(work)) == signal.SIGKILL
    assert [folder.name for folder in tmp_path.glob("checkpoint-*")] == ["checkpoint-6"]
    assert run(tiny_checkpoint, pairs, tmp_path) == uninterrupted


def test_out_of_memory_the_step_begins_anew_in_smaller_micro_batches(
    tiny_checkpoint: Checkpoint, pairs, tmp_path: Path
):
    """Steps of 3,000 pairs at once where there is no room for them; the same as with small ones from the beginning."""
    count = 6000
    many = pairs.select([i % len(pairs) for i in range(count)])
    many = many.remove_columns("pair").add_column("pair", list(range(count)))
    settings = {"batch_size": count // 2, "epochs": 1, "batch_tokens": 10**9, "checkpoint_steps": 100}

    def train(folder: str, **changes: int) -> list:
        weights, log = run(tiny_checkpoint, many, tmp_path / folder, PARAMETERS.model_copy(update=settings | changes))
        return [weights.hex(), log]

    halved, logged = within_memory(
        300, lambda: train("limited"), tmp_path, before=lambda: train("first", batch_tokens=9000)
    )
    sizes = re.findall(r"out of memory in training, step 1: going on with batch_tokens (\d+)", logged)
    assert sizes
    assert "step 2" not in logged
    assert halved == train("small", batch_tokens=int(sizes[-1]))
