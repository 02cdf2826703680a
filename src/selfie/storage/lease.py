"""A lock in a bucket: a numbered object, created only where there is none, and renewed while its run lives.

The object with the highest number says who holds the lock. Whoever takes it, released or run out, creates the next
number; of several that try, the storage lets one succeed. So nothing is ever overwritten that another may rely on,
and storages need nothing but the conditional create. Ages are measured on the bucket's clock alone.
"""

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

from selfie.errors import AlreadyRunningError

logger = logging.getLogger(__name__)

LEASE_SECONDS = 60.0
RENEWALS = 4  # in that time
LONGEST_CALL = 10.0


class Lease:
    """The right to work on what a lock stands for.

    Args:
        files: the storage, an fsspec file system.
        clock: the storage's; raises StorageError where it can't be written.
        place: below which the numbered objects lie.
        folder: the id of the local folder that the run works in. Whoever holds the folder's own lock knows that a lease
            of the same folder and machine is a dead run's, and takes it at once.
    """

    def __init__(self, files: Any, clock: Callable[[], datetime], place: str, folder: str):
        self.files, self.clock, self.place, self.folder = files, clock, place, folder
        self.number = 0
        self._lost = False
        self._renewed = 0.0
        self._stop = threading.Event()
        self.held = False

    def acquire(self) -> str | None:
        """Takes the lock: returns None then, or else who has it."""
        now, number = self.clock(), self._newest()
        if number:
            try:
                holder = json.loads(self.files.cat_file(self._object(number)))
                age = (now - self.files.modified(self._object(number))).total_seconds()
            except FileNotFoundError:
                return "a run that has just begun"
            ours = holder and (holder["folder"], holder["host"]) == (self.folder, socket.gethostname())
            if holder and not ours and age < LEASE_SECONDS:
                left = LEASE_SECONDS - age
                return f"pid {holder['pid']} on {holder['host']}, since {holder['since']}; its lease holds {left:.0f} s"
            if holder:
                logger.warning("the last run (pid %s on %s) did not end by itself", holder["pid"], holder["host"])
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        self._content = json.dumps(
            {"host": socket.gethostname(), "pid": os.getpid(), "since": since, "folder": self.folder}
            | {"token": uuid.uuid4().hex}
        ).encode()
        self.number = number + 1
        if not self._create() or self._newest() != self.number:
            return "a run that has just begun"
        for older in self._numbers():
            if older < self.number:
                self.files.rm_file(self._object(older))
        self._renewed, self.held = _seconds(), True
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()
        return None

    def check(self) -> None:
        """Raises AlreadyRunningError where another run has taken over, since this one could not renew its lease."""
        if self.held and _seconds() - self._renewed > LEASE_SECONDS:
            self._renew()
        if self.held and self._lost:
            problem = "this run could not renew its lease in time, and another one has taken over"
            remedy = "wait for it or stop it; nothing was lost, and the next run goes on from what is committed"
            raise AlreadyRunningError(self.place, problem, remedy)

    def release(self) -> None:
        """Lets go of it; where the bucket can't be reached, it runs out by itself."""
        self._stop.set()
        self._thread.join(LONGEST_CALL)  # a renewal that is under way must not come after this
        self.held = False
        try:
            if not self._lost and self._newest() == self.number:
                self.files.pipe_file(self._object(self.number), b"{}")
        except Exception as error:  # whatever ended the run is what the user should see
            logger.warning("the lease %s could not be given back (%s): it runs out by itself", self.place, error)

    def _create(self) -> bool:
        try:
            self.files.pipe_file(self._object(self.number), self._content, mode="create")
        except FileExistsError:
            # A client that repeats a call whose answer was lost finds its own object.
            found: bytes = self.files.cat_file(self._object(self.number))
            return found == self._content
        return True

    def _keep(self) -> None:
        while not self._lost and not self._stop.wait(LEASE_SECONDS / RENEWALS):
            try:
                self._renew()
            except Exception as error:  # the next upload will say it, or find that all is well again
                logger.debug("the lease %s could not be renewed: %s", self.place, error)

    def _renew(self) -> None:
        if self._newest() > self.number:
            self._lost = True
        elif not self._stop.is_set():
            self.files.pipe_file(self._object(self.number), self._content)
            self._renewed = _seconds()

    def _newest(self) -> int:
        return max(self._numbers(), default=0)

    def _numbers(self) -> list[int]:
        found: list[Any] = self.files.find(self.place)
        return [int(name) for name in (path.rpartition("/")[2] for path in found) if name.isdigit()]

    def _object(self, number: int) -> str:
        return f"{self.place}/{number:09d}"


def _seconds() -> float:
    """Of a clock that goes on while the machine sleeps, as the lease does; ``time.monotonic`` stands still on Linux."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
