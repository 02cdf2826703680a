"""``kedro run`` with its data in a bucket, on a real S3 server: killed, cut off, refused, and equal to a local run."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chaos import differences
from runs import PROJECT

BUCKET = "runs-of-tests"
Run = Callable[..., subprocess.Popen]


@pytest.fixture
def start(s3: Any, tmp_path: Path, empty_database: Path) -> Run:
    """``start(machine)``: what a user types, on a machine of that name with its own folder and ``machine.log``."""

    def run(machine: str, data: str = f"s3://{BUCKET}/prefix", **environment: str) -> subprocess.Popen:
        if not (tmp_path / f"{machine}.db").exists():
            shutil.copy(empty_database, tmp_path / f"{machine}.db")
        places = {"SELFIE_DATA": data, "SELFIE_SCRATCH": str(tmp_path / machine)}
        places["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path}/{machine}.db"
        with (tmp_path / f"{machine}.log").open("a") as log:
            return subprocess.Popen(
                [Path(sys.executable).with_name("kedro"), "run", "--env", "test"],
                cwd=PROJECT,
                env={**os.environ, **s3.environment, **places, "COLUMNS": "200", **environment},
                stdout=log,
                stderr=log,
            )

    return run


def log(folder: Path, machine: str) -> str:
    """What its runs have said, with single spaces."""
    return " ".join((folder / f"{machine}.log").read_text().split())


def wait_for(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    while not condition():
        assert process.poll() is None, "the run ended before"
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("data", "environment", "problem"),
    [
        ("s3://no-such-bucket/prefix", {}, "s3://no-such-bucket/prefix: there is no such bucket"),
        ("s3://read-only/prefix", {}, "s3://read-only/prefix: it may not be written"),
        (f"s3://{BUCKET}/prefix", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "it can't be reached"),
    ],
)
def test_a_bucket_that_can_not_be_used_is_said_at_once(
    s3: Any, start: Run, tmp_path: Path, data: str, environment: dict[str, str], problem: str
):
    s3.client.create_bucket(Bucket="read-only")
    s3.forbid_writing("read-only")
    run = start("one", data, **environment)
    assert run.wait(600) == 3
    assert problem in log(tmp_path, "one")
    assert "Traceback" not in log(tmp_path, "one")
    assert not (tmp_path / "one").exists()


def test_a_run_in_a_bucket_survives_and_equals_a_local_one(s3: Any, start: Run, tmp_path: Path, finished_run: Path):
    """Killed while it uploads a policy; then the bucket vanishes with all that it held; then a new machine goes on."""
    s3.client.create_bucket(Bucket=BUCKET)
    s3.hold = "/policy_0/.*safetensors"
    killed = start("one")
    wait_for(s3.held.is_set, killed)

    second = start("two")
    assert second.wait(600) == 4
    assert f"another run works on this experiment: pid {killed.pid} on " in log(tmp_path, "two")

    killed.send_signal(signal.SIGKILL)
    killed.wait()
    s3.refuse_held()
    names = s3.names(BUCKET)
    assert any("/policy_0/" in name for name in names)
    assert not any("/policy_0/.manifest" in name for name in names)
    assert any("/.workspace_seeding/" in name for name in names)

    cut_off = start("one")
    wait_for(lambda: any("/iteration_1/responses/.manifest" in name for name in s3.names(BUCKET)), cut_off)
    s3.hold = "."
    wait_for(s3.held.is_set, cut_off)
    s3.drop(BUCKET)
    s3.refuse_held()
    assert cut_off.wait(600) == 3
    assert "run the same command again once the bucket answers" in log(tmp_path, "one")

    s3.client.create_bucket(Bucket=BUCKET)
    assert start("one").wait(1200) == 0, log(tmp_path, "one")[-3000:]
    said = log(tmp_path, "one")
    for step in ("pretrain_model", "seeding.tokenize_pairs", "iteration_1.generate_responses"):
        assert said.count(f"/61 {step}: ") == 1
    assert "training goes on from checkpoint-" in said
    folder = tmp_path / "one/s3" / BUCKET / "prefix"
    assert differences(folder, finished_run) == []

    assert start("three").wait(600) == 0, log(tmp_path, "three")[-3000:]
    assert "61 of 61 steps were committed and fresh and were skipped" in log(tmp_path, "three")
    assert differences(tmp_path / "three/s3" / BUCKET / "prefix", finished_run) == []
    left = s3.names(BUCKET)
    assert not any(".workspace" in name or ".probes" in name for name in left)
