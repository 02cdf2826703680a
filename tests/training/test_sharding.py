"""A training in shards (FSDP2), over gloo: the policy of one process, and what a process holds of it."""

import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_launch import PARAMETERS, STEPS, assert_same, ended, marks, run, stopped_at  # noqa: F401

from selfie.config.execution import ExecutionParameters
from selfie.errors import ConfigurationError
from selfie.models.checkpoint import Checkpoint
from selfie.training.processes import SHARDS, check_processes
from selfie.training.sharding import WEIGHTS, as_many

IN_SHARDS = {"accelerate_config": str(SHARDS)}


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 4}, {"gradient_checkpointing": True}], ids=str)
def test_two_processes_train_the_policy_of_one(tiny_checkpoint: Checkpoint, marks: Path, tmp_path: Path, changes):  # noqa: F811
    """Losses, margins and weights to 1e-5, the flags of each pair, with unequal numbers of micro-batches."""
    trained = run(tiny_checkpoint, tmp_path / "two", processes=2, execution=IN_SHARDS, **changes)
    assert len(list(marks.iterdir())) == 2
    assert ended(marks)
    assert_same(trained, run(tiny_checkpoint, tmp_path / "one", **changes))


def test_killed_with_four_it_goes_on_with_two(tiny_checkpoint: Checkpoint, tmp_path: Path):
    """A checkpoint is in shards too, and is read by other numbers of processes; by one whole process it is refused."""
    workspace = tmp_path / "work"
    assert stopped_at(2, signal.SIGKILL, tiny_checkpoint, workspace, 4, IN_SHARDS) == -signal.SIGKILL
    (checkpoint,) = workspace.glob("checkpoint-*")
    assert len(list((checkpoint / WEIGHTS).glob("*.distcp"))) == 4
    with pytest.raises(ConfigurationError, match="begun with shards in each process"):
        run(tiny_checkpoint, workspace)
    trained = run(tiny_checkpoint, workspace, processes=2, execution=IN_SHARDS)
    assert {entry["step"] for entry in trained[1]} == set(range(STEPS))
    assert_same(trained, run(tiny_checkpoint, tmp_path / "uninterrupted", processes=2, execution=IN_SHARDS))


def test_margins_begin_at_zero_in_bf16(tiny_checkpoint: Checkpoint, tmp_path: Path):
    """Policy and reference are gathered alike."""
    _, log = run(tiny_checkpoint, tmp_path / "two", processes=2, execution=IN_SHARDS, precision="mixed")
    assert {entry["margin"] for entry in log if entry["step"] == 0} == {0.0}
    assert len({entry["margin"] for entry in log}) > 1


@given(st.lists(st.lists(st.integers(), min_size=1, max_size=8), min_size=1, max_size=6), st.integers(1, 20))
def test_batches_are_cut_until_there_are_as_many(batches: list[list[int]], wanted: int):
    items = [item for batch in batches for item in batch]
    wanted = min(max(wanted, len(batches)), len(items))
    cut = as_many(batches, wanted)
    assert len(cut) == wanted
    assert all(cut)
    assert [item for batch in cut for item in batch] == items


@pytest.mark.parametrize("changes", [{"optimizer": "adamw_8bit"}, {"lora_rank": 4, "lora_base": "nf4"}], ids=str)
def test_what_bitsandbytes_packs_is_not_spread(changes):
    execution = ExecutionParameters(training_processes=2, **IN_SHARDS)
    with pytest.raises(ConfigurationError, match="bitsandbytes packs whole models"):
        check_processes(execution, "training", PARAMETERS.model_copy(update=changes))
