"""One run at a time: who holds the lock is named, and what a killed run left does not block."""

import json
import logging
import os
import signal
import socket
import threading
from pathlib import Path

import pytest

from faults import in_a_child
from selfie.errors import AlreadyRunningError
from selfie.storage.locks import RunLock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "experiment" / ".lock"


def test_it_says_who_holds_it_and_nothing_afterwards(path: Path):
    lock = RunLock(path)
    with lock.waiting():
        holder = json.loads(path.read_text())
        assert (holder["host"], holder["pid"]) == (socket.gethostname(), os.getpid())
    assert path.read_text() == ""
    lock.release()  # a second time: nothing to let go of


def test_another_run_is_refused_and_told_whose_it_is(path: Path):
    holder = RunLock(path)
    holder.acquire()
    with pytest.raises(AlreadyRunningError, match=f"pid {os.getpid()} on {socket.gethostname()}") as caught:
        RunLock(path).acquire()
    assert caught.value.exit_code == 4
    path.write_text("")
    with pytest.raises(AlreadyRunningError, match="it has not said who it is"):
        RunLock(path).acquire()
    holder.release()
    RunLock(path).acquire()


def test_waiting_ends_when_the_other_lets_go(path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    holder = RunLock(path)
    holder.acquire()
    threading.Timer(0.3, holder.release).start()
    with RunLock(path).waiting():
        assert holder.descriptor is None
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert "waiting for it" in caplog.text
    assert "stale" not in caplog.text


def test_the_lock_of_a_killed_run_is_taken_with_a_warning(path: Path, caplog: pytest.LogCaptureFixture):
    def killed() -> None:
        RunLock(path).acquire()
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_a_child(killed) == signal.SIGKILL
    left = json.loads(path.read_text())["pid"]
    lock = RunLock(path)
    lock.acquire()
    assert f"the last run (pid {left}" in caplog.text
    assert json.loads(path.read_text())["pid"] == os.getpid() != left
    lock.release()
    caplog.clear()
    lock.acquire()
    assert caplog.text == ""  # the one before ended by itself
