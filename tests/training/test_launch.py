"""A training that a command starts in several processes, as ``execution.training_processes`` asks for it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import safetensors.torch
import torch
from datasets import Dataset
from test_trainer import BETA, PLAIN, by_step, make_pairs

from runs import PROJECT, write_to
from selfie.config.execution import ExecutionParameters
from selfie.errors import ConfigurationError, DivergenceError, MemoryExhaustedError
from selfie.models.checkpoint import Checkpoint
from selfie.storage.commit import verify
from selfie.training.processes import DATA_PARALLEL, check_processes, train_in_processes
from selfie.training.train import train

# The detector looks at both processes' pairs in its window of three steps, and extrapolates.
PARAMETERS = PLAIN.model_copy(
    update={
        "loss": "own_losses.watched",
        "epochs": 3,
        "batch_size": 8,
        "batch_tokens": 64,
        "label_smoothing": 0.3,
        "noise_percentile": 30.0,
        "detector_window": 20,
        "checkpoint_steps": 2,
    }
)
PAIRS, STEPS = 30, 12
SECONDS_TO_END = 20


@pytest.fixture(autouse=True)
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where processes leave their numbers."""
    folder = tmp_path / "marks"
    folder.mkdir()
    monkeypatch.setenv("MARKS", str(folder))
    return folder


def run(
    start: Checkpoint,
    workspace: Path,
    processes: int = 1,
    pairs: Dataset | None = None,
    execution: dict[str, str] | None = None,
    precision: str = "auto",
    **changes: Any,
):
    """The training in this process, or by so many others; weights and log."""
    workspace.mkdir(exist_ok=True)
    arguments = (pairs or make_pairs(PAIRS), PARAMETERS.model_copy(update=changes), BETA)
    settings = {"iteration": 1, "seed": 5, "workspace": workspace, "precision": precision}
    if processes == 1:
        policy, log = train(start, *arguments, **settings)
    else:
        several = ExecutionParameters(training_processes=processes, **execution or {})
        policy, log = train_in_processes(several, start, *arguments, **settings)
    return safetensors.torch.load_file(Path(policy.source) / "model.safetensors"), log


def assert_same(trained, expected) -> None:
    """Weights and losses to 1e-5, and to the pair who was trained when and flagged."""
    (weights, log), (expected_weights, expected_log) = trained, expected
    for name in ("pair", "step", "flagged", "trusted"):
        assert [entry[name] for entry in log] == [entry[name] for entry in expected_log]
    for name in ("loss", "margin", "detector_margin"):
        ours, theirs = ([e[name] for e in entries if e[name] is not None] for entries in (log, expected_log))
        assert ours == pytest.approx(theirs, abs=1e-5)
    for name, weight in weights.items():
        torch.testing.assert_close(weight, expected_weights[name], atol=1e-5, rtol=1e-5, msg=name)


def ended(marks: Path) -> bool:
    """Whether all who have left a mark are gone, or will be soon."""
    processes = [psutil.Process(int(mark.name)) for mark in marks.iterdir() if psutil.pid_exists(int(mark.name))]
    return not psutil.wait_procs([p for p in processes if p.pid != os.getpid()], timeout=SECONDS_TO_END)[1]


def test_two_processes_train_the_same_policy(tiny_checkpoint: Checkpoint, marks: Path, tmp_path: Path):
    """And flag the same pairs: τ is the percentile of both processes' margins. They load neither Kedro nor MLflow."""
    weights, log = run(tiny_checkpoint, tmp_path / "two", processes=2)
    assert len(list(marks.iterdir())) == 2
    assert {mark.read_text() for mark in marks.iterdir()} == {""}
    assert ended(marks)
    assert_same((weights, log), run(tiny_checkpoint, tmp_path / "one"))
    window: list[float] = []
    for step, entries in by_step(log).items():
        margins = [entry["detector_margin"] for entry in entries if entry["detector_margin"] is not None]
        if margins and not entries[0]["trusted"]:
            threshold = np.percentile(window[-20:], 30, method="weibull")
            assert [entry["flagged"] for entry in entries] == [margin < threshold for margin in margins], step
        window += margins
    assert any(entry["flagged"] for entry in log)


def test_an_error_in_the_processes_is_one_message(tiny_checkpoint: Checkpoint, tmp_path: Path):
    """Its type, where, what and what to do are those of one process; it names the log of both."""
    pairs = make_pairs(16)
    pairs = pairs.add_column("weight", [float("nan") if row["pair"] == 7 else 1.0 for row in pairs])
    with pytest.raises(DivergenceError) as caught:
        run(tiny_checkpoint, tmp_path / "work", 2, pairs, loss="noise_aware")
    told = str(caught.value)
    assert re.search(
        r"^training, step 1, pairs 7: the loss is not finite; .* \(process [01] of 2; the log of all: ", told
    )
    assert told.count("\n") == 1
    assert "lower learning_rate" in told.splitlines()[1]
    (log,) = (tmp_path / "work").glob("training-*.log")
    assert str(log) in told
    assert "Traceback" in log.read_text()


def test_a_killed_process_is_told_from_a_failing_one(tiny_checkpoint: Checkpoint, tmp_path: Path):
    """Though the other one fails, too: it has lost its connection."""
    with pytest.raises(MemoryExhaustedError, match="one of its 2 processes was killed"):
        run(tiny_checkpoint, tmp_path / "work", 2, loss="own_losses.deadly")


PARENT = """
import json, sys
from pathlib import Path
sys.path[:0] = sys.argv[1].split(":")
from selfie.models.checkpoint import Checkpoint
from selfie.runtime.signals import exit_on_sigterm
from test_launch import run
with exit_on_sigterm():
    execution, changes = map(json.loads, sys.argv[5:])
    run(Checkpoint(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), execution=execution, **changes)
"""


def stopped_at(
    step: int,
    number: signal.Signals,
    start: Checkpoint,
    workspace: Path,
    processes: int,
    execution: dict[str, str] | None = None,
    **changes: Any,
) -> int:
    """A run that gets the signal once this step's checkpoint is sealed; its exit code."""
    paths = ":".join(map(str, (Path(__file__).parent, Path(__file__).parents[1])))
    arguments = [start.source, str(workspace), str(processes), json.dumps(execution), json.dumps(changes)]
    command = [sys.executable, "-c", PARENT, paths, *arguments]
    parent = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "SECONDS_A_STEP": "0.1"})
    try:
        while not (workspace / f"checkpoint-{step}/manifest.json").exists():
            assert parent.poll() is None
            time.sleep(0.02)
        parent.send_signal(number)
        return parent.wait(SECONDS_TO_END)
    finally:
        parent.kill()
        parent.wait()


def test_four_processes_are_ended_and_fewer_go_on(tiny_checkpoint: Checkpoint, marks: Path, tmp_path: Path):
    """SIGTERM ends four with a checkpoint; two go on and end with their run, which is killed; one ends the training."""
    workspace = tmp_path / "work"
    assert stopped_at(2, signal.SIGTERM, tiny_checkpoint, workspace, 4) == 128 + signal.SIGTERM
    assert ended(marks)
    assert len(list(marks.iterdir())) == 4
    (checkpoint,) = workspace.glob("checkpoint-*")
    verify(checkpoint)
    step = int(checkpoint.name.removeprefix("checkpoint-"))
    assert 2 <= step < STEPS - 2
    assert stopped_at(step // 2 * 2 + 2, signal.SIGKILL, tiny_checkpoint, workspace, 2) == -signal.SIGKILL
    assert ended(marks)
    assert len(list(marks.iterdir())) == 6
    weights, log = run(tiny_checkpoint, workspace)
    assert len(by_step(log)) == STEPS
    assert_same((weights, log), run(tiny_checkpoint, tmp_path / "uninterrupted", processes=4))


def test_a_run_in_two_processes_makes_the_same_policies(
    finished_run: Path, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As a user types it, beside a run in one process."""
    write_to(tmp_path / "data", monkeypatch, empty_database)
    command = [sys.executable, "-m", "kedro", "run", "--env", "test", "--params", "execution.training_processes=2"]
    wide = {**os.environ, "COLUMNS": "200"}  # so that no line of the log is broken
    done = subprocess.run(command, cwd=PROJECT, env=wide, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count("training in 2 processes") == 3
    for number in (0, 1, 2):
        file = f"06_models/test/policy_{number}/model.safetensors"
        ours, theirs = (safetensors.torch.load_file(folder / file) for folder in (tmp_path / "data", finished_run))
        for name, weight in ours.items():
            torch.testing.assert_close(weight, theirs[name], atol=1e-5, rtol=1e-5, msg=f"{file}, {name}")


WRONG = {
    "another number": ("num_processes: 3", "it is for 3 processes, and execution.training_processes is 2"),
    "machines": ("num_machines: 3", "2 processes can't be shared out evenly to its 3 machines"),
    "MPI": ("distributed_type: MULTI_CPU", "its distributed_type is MULTI_CPU"),
    "DeepSpeed": ("distributed_type: DEEPSPEED", "its distributed_type is DEEPSPEED"),
    "shards of version 1": ("distributed_type: FSDP", "its fsdp_version is None, and the training is made for 2"),
    "unknown key": ("processes: 2", "accelerate can't read it"),
    "no YAML": ("{", "accelerate can't read it"),
}


@pytest.mark.parametrize(("line", "words"), WRONG.values(), ids=WRONG)
def test_an_accelerate_file_that_does_not_fit_is_refused(line: str, words: str, tmp_path: Path):
    key = line.split(":", maxsplit=1)[0]
    kept = [other for other in DATA_PARALLEL.read_text().splitlines() if not other.startswith(key)]
    (tmp_path / "own.yaml").write_text("\n".join([*kept, line]))
    execution = ExecutionParameters(training_processes=2, accelerate_config=str(tmp_path / "own.yaml"))
    with pytest.raises(ConfigurationError, match=words) as caught:
        check_processes(execution, "training", PARAMETERS)
    assert caught.value.where == str(tmp_path / "own.yaml")


def test_what_can_not_be_started_is_refused(monkeypatch: pytest.MonkeyPatch):
    """The batch, the file's name, and the number of GPUs; a machine with GPUs is not needed to count them."""
    nine = PARAMETERS.model_copy(update={"batch_size": 9})
    with pytest.raises(ConfigurationError, match=r"seeding\.batch_size: 9 pairs can't be shared out evenly to 2"):
        check_processes(ExecutionParameters(training_processes=2), "seeding", nine)
    nowhere = ExecutionParameters(training_processes=2, accelerate_config="nowhere.yaml")
    with pytest.raises(ConfigurationError, match=r"accelerate_config: there is no file nowhere\.yaml"):
        check_processes(nowhere, "training", PARAMETERS)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    check_processes(ExecutionParameters(training_processes="auto"), "training", PARAMETERS)
    with pytest.raises(ConfigurationError, match="4 processes need as many GPUs of their own, and there are 2"):
        check_processes(ExecutionParameters(training_processes=4), "training", PARAMETERS)
