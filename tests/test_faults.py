"""What goes wrong on real machines, each really caused: signals, full and locked disks, a clock that is set back."""

import os
import resource
import signal
import time
from pathlib import Path

import psutil
import pytest
from datasets import Dataset

from faults import ROOT, in_a_child
from selfie.app.hooks import LockHooks
from selfie.datasets import CommittedDataset, LockDataset, RowsDataset
from selfie.errors import StorageError
from selfie.errors.disk_and_memory import explain
from selfie.runtime.signals import exit_on_sigterm
from selfie.storage.commit import is_committed
from selfie.storage.shards import Shards, in_shards


def test_sigterm_elsewhere_ends_at_once(tmp_path: Path):
    """The shard that is being computed is given up, what was committed stays, and the process is gone in no time."""

    def compute(rows: range) -> Dataset:
        if 4 in rows:
            (tmp_path / "computing").touch()
            time.sleep(60)
        return Dataset.from_dict({"row": rows})

    def work() -> None:
        with exit_on_sigterm():
            in_shards(Shards(tmp_path, 2), compute, 8)

    child = os.fork()
    if child == 0:
        try:
            work()
        except SystemExit as end:
            os._exit(int(end.code))
        os._exit(0)
    while not (tmp_path / "computing").exists():
        time.sleep(0.02)
    began = time.monotonic()
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 128 + signal.SIGTERM
    assert time.monotonic() - began < 10
    assert [is_committed(tmp_path / f"shard-00000{number}") for number in range(4)] == [True, True, False, False]


def test_a_training_that_does_not_come_to_the_end_of_its_step_is_ended(tmp_path: Path):
    """SIGTERM waits for eight seconds, not for ever."""
    from selfie.runtime import signals

    def work() -> None:
        signals.GRACE_SECONDS = 1
        with exit_on_sigterm(), signals.finish_step_on_sigterm():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)

    began = time.monotonic()
    assert os.waitstatus_to_exitcode(in_a_child(work)) == 128 + signal.SIGTERM
    assert time.monotonic() - began < 10


def test_a_full_disk_leaves_the_old_version(small_disk: Path):
    rows = RowsDataset(str(small_disk / "rows"))
    rows.save(Dataset.from_dict({"text": ["old"]}))
    with pytest.raises(Exception) as caught:
        rows.save(Dataset.from_dict({"text": ["x" * 1000] * 1000}))
    known = explain(caught.value)
    assert isinstance(known, StorageError)
    assert "disk is full" in str(known)
    assert known.exit_code == 3
    assert RowsDataset(str(small_disk / "rows")).load()["text"][:] == ["old"]
    assert sorted(file.name for file in small_disk.iterdir()) == ["rows"]  # nothing half written takes room


def test_a_quota_is_a_full_disk(tmp_path: Path):
    """A file-size limit, which needs no root; in a child, for it can't be lifted."""
    summary = CommittedDataset(str(tmp_path / "summary.json"), {"type": "json.JSONDataset"})
    summary.save({"old": 1})

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            summary.save({"new": "x" * 100_000})
        except Exception as error:
            known = explain(error)
            os._exit(known.exit_code if known else 1)

    assert os.waitstatus_to_exitcode(in_a_child(work)) == StorageError.exit_code
    assert summary.load() == {"old": 1}


def test_a_read_only_folder_is_named(tmp_path: Path):
    """By the hook that writes first; as a user without root's rights."""
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o555)
    for parent in (tmp_path, *tmp_path.parents):
        if ROOT and parent != Path("/") and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o055)

    class Catalog(dict):
        def load(self, name: str):
            return self[name]

    def work() -> None:
        if ROOT:
            os.setuid(65534)
        try:
            LockHooks().before_pipeline_run(Catalog(run_lock=LockDataset(str(folder / "test" / ".lock")).load()))
        except StorageError as error:
            os._exit(error.exit_code if str(folder) in str(error) and "may not be written" in str(error) else 1)

    assert os.waitstatus_to_exitcode(in_a_child(work)) == 3


def test_no_step_takes_negative_time(tmp_path: Path, monkeypatch):
    """The clock is set back by a day between two steps."""
    from kedro.io import DataCatalog
    from kedro.pipeline import node

    from selfie.app.hooks import TimingHooks

    timings = CommittedDataset(str(tmp_path / "timings.json"), {"type": "json.JSONDataset"})
    catalog = DataCatalog({"timings": timings})
    hooks = TimingHooks()
    real = time.time
    age = real() - psutil.Process().create_time()
    for number, jump in enumerate((0, -86_400)):
        monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
        hooks.after_node_run(node(len, "a", f"b{number}", name=f"step_{number}"), catalog)
    assert all(0 <= entry["seconds"] < age + 60 for entry in timings.load().values())
