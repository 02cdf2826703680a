"""A training in shards (FSDP2), over gloo: the policy of one process, and what a process holds of it."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from test_launch import PARAMETERS, STEPS, assert_same, ended, marks, run, stopped_at  # noqa: F401
from test_processes import launch, process_group
from test_trainer import config, make_pairs
from torch.distributed.tensor import DTensor

from selfie.config.execution import ExecutionParameters
from selfie.errors import ConfigurationError
from selfie.models.checkpoint import Checkpoint
from selfie.preference.losses import LOSSES
from selfie.training.processes import SHARDS, check_processes
from selfie.training.sharding import WEIGHTS, ShardedTrainer, as_many

IN_SHARDS = {"accelerate_config": str(SHARDS)}


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 4}, {"gradient_checkpointing": True}], ids=str)
def test_two_processes_train_the_policy_of_one(tiny_checkpoint: Checkpoint, marks: Path, tmp_path: Path, changes):  # noqa: F811
    """Losses, margins and weights to 1e-5, the flags of each pair, with unequal numbers of micro-batches."""
    trained = run(tiny_checkpoint, tmp_path / "two", processes=2, execution=IN_SHARDS, **changes)
    assert len(list(marks.iterdir())) == 2
    assert ended(marks)
    assert_same(trained, run(tiny_checkpoint, tmp_path / "one", **changes))


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 4}], ids=str)
def test_killed_with_four_it_goes_on_with_two(tiny_checkpoint: Checkpoint, tmp_path: Path, changes):
    """A checkpoint is in shards too, and is read by other numbers of processes; by one whole process it is refused."""
    workspace = tmp_path / "work"
    assert stopped_at(2, signal.SIGKILL, tiny_checkpoint, workspace, 4, IN_SHARDS, **changes) == -signal.SIGKILL
    (checkpoint,) = workspace.glob("checkpoint-*")
    assert len(list((checkpoint / WEIGHTS).glob("*.distcp"))) == 4
    with pytest.raises(ConfigurationError, match="begun with shards in each process"):
        run(tiny_checkpoint, workspace, **changes)
    trained = run(tiny_checkpoint, workspace, processes=2, execution=IN_SHARDS, **changes)
    assert {entry["step"] for entry in trained[1]} == set(range(STEPS))
    expected = run(tiny_checkpoint, tmp_path / "uninterrupted", processes=2, execution=IN_SHARDS, **changes)
    assert_same(trained, expected)


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 4}], ids=str)
def test_margins_begin_at_zero_in_bf16(tiny_checkpoint: Checkpoint, tmp_path: Path, changes):
    """Policy and reference are gathered alike."""
    _, log = run(tiny_checkpoint, tmp_path / "two", processes=2, execution=IN_SHARDS, precision="mixed", **changes)
    assert {entry["margin"] for entry in log if entry["step"] == 0} == {0.0}
    assert len({entry["margin"] for entry in log}) > 1


def leave_parts(rank: int, processes: int, folder: Path, checkpoint: Checkpoint) -> None:
    """After a step, as accelerate's launcher would start it: what of each layer's weights this process holds."""
    settings = yaml.safe_load(SHARDS.read_text())["fsdp_config"]
    os.environ.update({name.upper(): str(value) for name, value in settings.items()}, ACCELERATE_USE_FSDP="true")
    with process_group(rank, processes, folder / "store"):
        model, reference = (checkpoint.load_model(torch.float32) for _ in range(2))
        arguments = config(folder / str(rank), max_steps=1, per_device_train_batch_size=2, ddp_backend="gloo")
        pairs, tokenizer = make_pairs(8), checkpoint.load_tokenizer()
        trainer = ShardedTrainer(model, reference, pairs, arguments, PARAMETERS, 0.5, processing_class=tokenizer)
        trainer.preference_loss = LOSSES["noise_aware"]
        trainer.train()
        parts = {
            who: [
                (w.numel(), w.to_local().numel()) for w in one.base_model.layers.parameters() if isinstance(w, DTensor)
            ]
            for who, one in (("policy", model), ("reference", reference))
        }
        weights = len(list(model.base_model.layers.parameters()))
        (folder / f"parts_{rank}.json").write_text(json.dumps({"weights": weights, **parts}))


def test_a_process_holds_its_part_of_both_models(tiny_checkpoint: Checkpoint, tmp_path: Path):
    """Of every layer of the policy and of the reference a half, but while it is gathered."""
    launch(leave_parts, 2, tmp_path, tiny_checkpoint)
    left = [json.loads((tmp_path / f"parts_{rank}.json").read_text()) for rank in (0, 1)]
    for who in ("policy", "reference"):
        first, second = (one[who] for one in left)
        assert len(first) == len(second) == left[0]["weights"]
        assert all(ours + theirs == whole for (whole, ours), (_, theirs) in zip(first, second, strict=True))
        assert all(0 < ours < whole for whole, ours in first)


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
    execution = ExecutionParameters(training_processes=2, accelerate_config=str(SHARDS))
    with pytest.raises(ConfigurationError, match="bitsandbytes packs whole models"):
        check_processes(execution, "training", PARAMETERS.model_copy(update=changes))


def test_one_process_has_nobody_to_share_with():
    with pytest.raises(ConfigurationError, match="spreads a training over processes, and there is one") as caught:
        check_processes(ExecutionParameters(accelerate_config=str(SHARDS)), "training", PARAMETERS)
    assert caught.value.where == "parameter execution.training_processes"


def test_what_the_trainer_is_not_made_for_is_refused(tmp_path: Path):
    """Accelerate's checkpointing would compute layers again without the paths of their attention."""
    own = yaml.safe_load(SHARDS.read_text())
    own["fsdp_config"]["fsdp_activation_checkpointing"] = True
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    execution = ExecutionParameters(training_processes=2, accelerate_config=str(tmp_path / "own.yaml"))
    with pytest.raises(ConfigurationError, match="fsdp_activation_checkpointing is True, and the training is made for"):
        check_processes(execution, "training", PARAMETERS)
