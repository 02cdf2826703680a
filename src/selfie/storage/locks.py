"""One run at a time for an experiment, and for what experiments share."""

import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selfie.errors import AlreadyRunningError
from selfie.storage.lease import LEASE_SECONDS, Lease
from selfie.storage.remote import Bucket

logger = logging.getLogger(__name__)
POLL_SECONDS = 2.0  # between two looks at a lease that is waited for


class RunLock:
    """A file that the running process holds with ``flock``; it says who that is.

    The kernel lets go of it when the process ends, however it ends, so a lock that can be taken is never another's; a
    file that still names somebody was left by a run that was killed. With data in a bucket the run also holds a lease
    there (:mod:`selfie.storage.lease`), so that runs on other machines are kept out.

    Args:
        path: the file.
        problem: what it means that another process has it, for the error.
        remedy: and what to do then.
    """

    def __init__(
        self,
        path: Path,
        problem: str = "another run works on this experiment",
        remedy: str = "wait for it or stop it, or choose another experiment (--params experiment=NAME)",
    ):
        self.path = path
        self.problem, self.remedy = problem, remedy
        self.descriptor: int | None = None
        self.lease: Lease | None = None

    def acquire(self, wait: bool = False) -> None:
        """Takes the lock.

        Args:
            wait: for another process, on this host or (where the file system shares locks) another, that has it.

        Raises:
            AlreadyRunningError: another process has it, and it is not to be waited for.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _describe(os.pread(descriptor, 4096, 0)) or "it has not said who it is"
            if not wait:
                os.close(descriptor)
                raise AlreadyRunningError(
                    str(self.path),
                    f"{self.problem}: {holder}",
                    self.remedy,
                ) from error
            logger.info("another run (%s) makes what experiments share: waiting for it", holder)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        left = _describe(os.pread(descriptor, 4096, 0))
        if left:
            logger.warning("the last run (%s) did not end by itself; its lock is stale, and this run goes on", left)
        self.descriptor = descriptor
        self._write(
            json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")})
        )
        if Bucket.current is not None:
            try:
                self._take_lease(Bucket.current, wait)
            except BaseException:
                self.release()
                raise

    def _take_lease(self, bucket: Bucket, wait: bool) -> None:
        lease, said = bucket.lease(self.path), False
        while True:
            with bucket.calls("taking the lease"):
                holder = lease.acquire()
            if holder is None:
                break
            if not wait:
                remedy = f"{self.remedy}; a run that was killed holds it for {LEASE_SECONDS:.0f} s at most"
                raise AlreadyRunningError(f"{bucket.address}, {self.path.name}", f"{self.problem}: {holder}", remedy)
            if not said:
                logger.info("another run (%s) makes what experiments share: waiting for it", holder)
            said = True
            time.sleep(POLL_SECONDS)
        self.lease = lease

    def release(self) -> None:
        """Lets go of it, if it is held."""
        if self.lease is not None:
            self.lease.release()
            self.lease = None
        if self.descriptor is not None:
            self._write("")
            os.close(self.descriptor)
            self.descriptor = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Holds the lock inside; waits for another process that has it."""
        self.acquire(wait=True)
        try:
            yield
        finally:
            self.release()

    def _write(self, text: str) -> None:
        assert self.descriptor is not None
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, text.encode(), 0)


def _describe(content: bytes) -> str:
    try:
        holder = json.loads(content)
        return f"pid {holder['pid']} on {holder['host']}, since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return ""
