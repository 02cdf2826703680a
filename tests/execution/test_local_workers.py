"""Local workers are real processes: as many as are asked for, the same results, and nothing is left of them."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import deadly
import psutil
import pytest
import torch
from datasets import Dataset

from selfie.config.execution import ExecutionParameters
from selfie.errors import ConfigurationError, DataError, EngineError
from selfie.execution.local_pool import local_devices
from selfie.execution.map_shards import OpenWorker, check_execution, map_shards
from selfie.judges.prompted_policy import VerdictPrompt, verdict_probabilities
from selfie.models.checkpoint import Checkpoint
from selfie.scoring.log_probs import score
from selfie.storage.commit import file_sha256
from selfie.storage.shards import Shards

WORKERS = "selfie.execution.worker"
SECONDS_TO_DIE = 20
on_a_cpu = pytest.mark.skipif(torch.accelerator.is_available(), reason="there, workers are as many as devices")


def with_workers(count: int) -> ExecutionParameters:
    return ExecutionParameters(workers=count)


def run(worker: OpenWorker, folder: Path, workers: int = 2) -> Dataset:
    """Ten rows in shards of two."""
    return map_shards(worker, Shards(folder, 2, with_workers(workers)), 10)


def files(folder: Path) -> dict[str, str]:
    """The bytes of all shards."""
    return {str(file.relative_to(folder)): file_sha256(file) for file in folder.rglob("*") if file.is_file()}


def worker_processes() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if WORKERS in p.cmdline()]


@on_a_cpu
def test_one_two_and_three_workers_give_the_same_bytes(
    sample: Callable[[str, ExecutionParameters], Dataset], tiny_checkpoint: Checkpoint, tmp_path: Path
):
    for workers in (1, 2, 3):
        responses = sample(f"sampled_{workers}", with_workers(workers))
        scores = Shards(tmp_path / f"scored_{workers}", 5, with_workers(workers))
        score(tiny_checkpoint, responses["prompt_ids"], responses["response_ids"], 256, "test", scores)
        verdicts = Shards(tmp_path / f"judged_{workers}", 5, with_workers(workers))
        ask = VerdictPrompt("{prompt} {response_1} {response_2}", "w00", "w01")
        texts = responses["prompt"], responses["response"], responses["response"][::-1]
        verdict_probabilities(tiny_checkpoint, *texts, ask, 256, verdicts)
    for stage in ("sampled", "scored", "judged"):
        one, two, three = (files(tmp_path / f"{stage}_{workers}") for workers in (1, 2, 3))
        assert len(one) > 10
        assert one == two == three
    assert not worker_processes()


def test_one_worker_is_this_process(tmp_path: Path):
    assert set(run(deadly.open_seeing, tmp_path, workers=1)["process"]) == {os.getpid()}


@on_a_cpu
def test_each_has_cores_of_its_own_and_none_of_this_process_main_module(tmp_path: Path, caplog):
    with caplog.at_level(logging.WARNING):
        seen = run(deadly.open_seeing, tmp_path)
    assert os.getpid() not in seen["process"]
    shares = [device.cores for device in local_devices(2)]
    assert set(seen["cores"]) <= {len(share) for share in shares}
    assert max(seen["threads"]) <= max(len(share) for share in shares)
    assert set(seen["foreign"]) == {""}
    assert "row 0 is odd" in caplog.messages


@on_a_cpu
def test_cores_are_shared_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(5)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [device.cores for device in local_devices(2)] == [(0, 1), (2, 3, 4)]
    assert [device.environment["OMP_NUM_THREADS"] for device in local_devices(2)] == ["2", "3"]
    assert [len(device.cores) for device in local_devices(7)] == [1] * 7
    assert len(local_devices("auto")) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert [device.environment["OMP_NUM_THREADS"] for device in local_devices(2)] == ["1", "1"]


def test_a_gpu_each(monkeypatch: pytest.MonkeyPatch):
    """The numbers of the devices are the user's own; a machine with GPUs is not needed to count them."""
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert [device.environment["CUDA_VISIBLE_DEVICES"] for device in local_devices("auto")] == ["4", "6"]
    with pytest.raises(ConfigurationError, match="3 workers need as many devices of their own, and there are 2"):
        check_execution(with_workers(3))


@on_a_cpu
def test_a_killed_worker_is_replaced(tmp_path: Path, caplog):
    (tmp_path / "marks").mkdir()
    with caplog.at_level(logging.WARNING):
        rows = run(partial(deadly.open_killed, tmp_path / "marks", 2), tmp_path / "shards")
    assert rows["square"][:] == [row**2 for row in range(10)]
    assert sum("is replaced: it was killed" in message for message in caplog.messages) == 2
    assert not worker_processes()


@on_a_cpu
def test_workers_that_are_killed_every_time_end_in_one_error(tmp_path: Path):
    (tmp_path / "marks").mkdir()
    worker = partial(deadly.open_killed, tmp_path / "marks", 100)
    with pytest.raises(EngineError, match=r"3 of them died at \S+shard-000003.*its log, \S+\.log, ends with"):
        run(worker, tmp_path / "shards")
    assert not worker_processes()
    (tmp_path / "marks").rename(tmp_path / "others")
    (tmp_path / "marks").mkdir()
    rows = run(partial(deadly.open_killed, tmp_path / "marks", 0), tmp_path / "shards")
    assert rows["square"][:] == [row**2 for row in range(10)]  # nothing is lost


@on_a_cpu
def test_what_the_user_can_mend_is_raised_as_it_is_and_at_once(tmp_path: Path):
    with pytest.raises(DataError, match=r"file\.jsonl, row 7: it is empty"):
        run(deadly.open_refusing, tmp_path)
    assert not worker_processes()


@on_a_cpu
def test_a_worker_that_can_not_be_opened_says_why(tmp_path: Path):
    with pytest.raises(EngineError, match=r"(?s)3 of them died while it opened its model.*RuntimeError: no such thing"):
        run(deadly.open_unopenable, tmp_path)


@on_a_cpu
def test_the_test_kills_a_worker_from_outside_while_it_samples(sample, tmp_path: Path):
    """By SIGKILL, after the first shard."""
    alone = sample("alone", with_workers(1)).to_list()
    killed = []

    def kill() -> None:
        while not list((tmp_path / "shared").glob("shard-*")):
            time.sleep(0.01)
        victim = worker_processes()[0]
        killed.append(victim.pid)
        victim.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    assert sample("shared", with_workers(2)).to_list() == alone
    killer.join()
    assert killed
    assert files(tmp_path / "shared") == files(tmp_path / "alone")


PARENT = """
import signal, sys
from functools import partial
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import deadly
from selfie.config.execution import ExecutionParameters
from selfie.execution.map_shards import map_shards
from selfie.runtime.signals import exit_on_sigterm
from selfie.storage.shards import Shards
signal.signal(signal.SIGINT, signal.default_int_handler)
with exit_on_sigterm():
    shards = Shards(Path(sys.argv[2]) / "shards", 2, ExecutionParameters(workers=2))
    map_shards(partial(deadly.open_slow, Path(sys.argv[2]) / "marks"), shards, 10)
"""


@on_a_cpu
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_run(tmp_path: Path, number: int):
    """However it ends, and though they look at nothing but their shard."""
    (tmp_path / "marks").mkdir()
    command = [sys.executable, "-c", PARENT, str(Path(__file__).parent), str(tmp_path)]
    parent = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while len(list((tmp_path / "marks").iterdir())) < 2:
            assert parent.poll() is None
            time.sleep(0.1)
        workers = [psutil.Process(int(mark.name)) for mark in (tmp_path / "marks").iterdir()]
        parent.send_signal(number)
        parent.wait(SECONDS_TO_DIE)
    finally:
        parent.kill()
        parent.wait()
    _, left = psutil.wait_procs(workers, timeout=SECONDS_TO_DIE)
    assert not left
