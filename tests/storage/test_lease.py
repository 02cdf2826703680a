"""Leases, on a real S3 server: one run at a time for an experiment, on whichever machines."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline

from selfie.app.runner import ContinuingRunner
from selfie.errors import AlreadyRunningError
from selfie.runtime.signals import TerminatedError
from selfie.storage import lease, locks
from selfie.storage.commit import commit_text
from selfie.storage.locks import RunLock
from selfie.storage.remote import Bucket

Machine = Callable[[str], Bucket]
PLACE = "08_reporting/test/.lock"


def lock_of(bucket: Bucket) -> RunLock:
    return RunLock(bucket.folder / PLACE)


def test_a_second_run_is_refused_and_told_whose_it_is(machine: Machine):
    first = lock_of(machine("one"))
    first.acquire()
    second = lock_of(machine("two"))
    with pytest.raises(AlreadyRunningError, match=r"pid \d+ on .*its lease holds \d+ s") as caught:
        second.acquire()
    assert "s3://bucket-" in str(caught.value)
    assert second.descriptor is None  # the local lock is free again too
    first.release()
    second.acquire()
    second.release()


def test_a_killed_runs_lease_is_taken_by_its_own_folder_at_once(machine: Machine, caplog: pytest.LogCaptureFixture):
    """Whoever holds the folder's own lock knows that nobody else works in it."""
    here = machine("one")
    killed = here.lease(here.folder / PLACE)
    assert killed.acquire() is None
    again = here.lease(here.folder / PLACE)
    assert again.acquire() is None
    assert "did not end by itself" in caplog.text
    assert again.number == killed.number + 1


def test_the_same_folder_on_another_machine_is_another_runs(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    """It was copied, or lies on a disk of both, which does not always tell one about the other's local lock."""
    here = machine("one")
    lives = here.lease(here.folder / PLACE)
    assert lives.acquire() is None
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    holder = here.lease(here.folder / PLACE).acquire()
    assert holder is not None
    assert "its lease holds" in holder
    lives.release()


def test_a_run_that_ends_on_sigterm_gives_its_lease_back(machine: Machine):
    """Kedro tells no hook of it, and another machine would wait for the lease to run out."""
    here = machine("one")
    lock_of(here).acquire()
    step = Node(lambda: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(5), None, "done", name="step")
    with pytest.raises(TerminatedError):
        ContinuingRunner().run(Pipeline([step]), DataCatalog())
    elsewhere = lock_of(machine("two"))
    elsewhere.acquire()
    elsewhere.release()


def test_its_age_goes_on_while_the_machine_sleeps():
    assert abs(lease._seconds() - float(Path("/proc/uptime").read_text().split()[0])) < 2.0


def test_a_lease_that_ran_out_is_taken_and_the_first_run_stops(
    machine: Machine, s3: Any, monkeypatch: pytest.MonkeyPatch
):
    """Its process was asleep: when it wakes, it writes nothing any more."""
    monkeypatch.setattr(lease, "LEASE_SECONDS", 2.0)
    here = machine("one")
    made = here.folder / "policy.txt"
    with monkeypatch.context() as patch:
        patch.setattr(lease.Lease, "_keep", lambda self: None)
        first = here.lease(here.folder / PLACE)
        assert first.acquire() is None
    there = machine("two")
    second = there.lease(there.folder / PLACE)
    assert second.acquire() is not None
    time.sleep(3.1)  # S3 counts in whole seconds
    assert second.acquire() is None
    here.close()
    commit_text(made, "without a lease")
    Bucket.current = here
    with pytest.raises(AlreadyRunningError, match="another one has taken over"):
        here._upload("policy", Path(__file__), {"files": {}, "provenance": None})
    s3.requests.clear()
    with pytest.raises(AlreadyRunningError, match="another one has taken over"):
        here.push(made)
    assert [method for method, _ in s3.requests if method in ("PUT", "DELETE")] == []  # nothing is sent before
    first.release()
    assert second._newest() == second.number  # and it takes nothing back
    second.check()
    second.release()


def test_a_run_that_lives_keeps_its_lease(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lease, "LEASE_SECONDS", 2.0)
    here = machine("one")
    first = here.lease(here.folder / PLACE)
    assert first.acquire() is None
    time.sleep(4)
    there = machine("two")
    assert there.lease(there.folder / PLACE).acquire() is not None
    first.check()
    first.release()
    assert there.lease(there.folder / PLACE).acquire() is None


def test_of_many_that_try_one_succeeds(machine: Machine):
    here = machine("one")
    candidates = [lease.Lease(here.files, here.now, f"{here.root}/{PLACE}", f"folder {i}") for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda candidate: candidate.acquire(), candidates))
    assert taken.count(None) == 1
    candidates[taken.index(None)].release()


def test_a_creation_whose_answer_was_lost_counts(machine: Machine):
    """The client repeats the call by itself, and finds its own object."""
    here = machine("one")
    first = here.lease(here.folder / PLACE)
    assert first.acquire() is None
    assert first._create()
    other = here.lease(here.folder / PLACE)
    other.number, other._content = first.number, b"{}"
    assert not other._create()
    first.release()


def test_what_experiments_share_is_waited_for(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.1)
    caplog.set_level(logging.INFO)
    first = lock_of(machine("one"))
    first.acquire()
    second = lock_of(machine("two"))
    threading.Timer(0.5, first.release).start()
    with second.waiting():
        assert first.lease is None
    assert caplog.text.count("waiting for it") == 1


def test_a_bucket_that_is_gone_does_not_hide_what_ended_the_run(
    machine: Machine, s3: Any, caplog: pytest.LogCaptureFixture
):
    here = machine("one")
    lock = lock_of(here)
    lock.acquire()
    s3.kill()
    try:
        lock.release()
        here.close()
    finally:
        s3.start()
    assert "it runs out by itself" in caplog.text
    commit_text(here.folder / "a.txt", "without a bucket again")
