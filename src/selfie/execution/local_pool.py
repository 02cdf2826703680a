"""Worker processes on this machine, one a device."""

import os
import pickle
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from logging import getLogger
from multiprocessing.connection import wait
from typing import Any, NamedTuple, Self

import torch

from selfie.errors import ConfigurationError
from selfie.runtime.child_program import ChildProgram
from selfie.storage.shards import Shard

WORKER = "selfie.execution.worker"


class Device(NamedTuple):
    """What one worker computes on: variables of its environment, and on a CPU the numbers of its cores."""

    environment: dict[str, str]
    cores: tuple[int, ...] = ()


def local_devices(workers: int | str) -> list[Device]:
    """One a worker. Without GPUs they share out the cores of this process, each at least one.

    Args:
        workers: ``execution.workers``.

    Raises:
        ConfigurationError: more workers than GPUs.
    """
    cores = _cores()
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is None:
        count = 1 if workers == "auto" else int(workers)
        bounds = [len(cores) * number // count for number in range(count + 1)]
        shares = [cores[bounds[i] : bounds[i + 1]] or [cores[i % len(cores)]] for i in range(count)]
        return [Device(_threads(len(share)), tuple(share)) for share in shares]
    found = torch.accelerator.device_count()
    count = found if workers == "auto" else int(workers)
    if count > found:
        problem = f"{count} workers need as many devices of their own, and there are {found} × {accelerator.type}"
        raise ConfigurationError("parameter execution.workers", problem, "lower it, or set it to auto")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = visible.split(",") if visible else list(map(str, range(found)))
    threads = threads_of_one(count)
    return [Device({"CUDA_VISIBLE_DEVICES": name, **threads}) for name in names[:count]]


def threads_of_one(processes: int) -> dict[str, str]:
    """The environment of each of so many processes that share this one's cores."""
    return _threads(max(1, len(_cores()) // processes))


def _cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):  # Linux
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _threads(cores: int) -> dict[str, str]:
    """A thread a core, and no more than the user allows."""
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    return {"OMP_NUM_THREADS": str(min(cores, int(allowed)) if allowed.isdigit() else cores)}


class LocalPool:
    """A :class:`selfie.execution.pool.Pool` of programs that end with this process, however it ends."""

    def __init__(self, open_worker: Callable[..., Any], devices: Sequence[Device]):
        self._open_worker, self._devices = pickle.dumps(open_worker), devices
        self._running: dict[ChildProgram, Device] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._running:
            worker.close()

    def start(self) -> list[ChildProgram]:
        """One process a device."""
        return [self._start(device) for device in self._devices]

    def replace(self, dead: ChildProgram) -> ChildProgram:
        """On the dead one's device."""
        dead.close()
        return self._start(self._running.pop(dead))

    def give(self, worker: ChildProgram, shard: Shard) -> None:
        """By its name and the numbers of its rows."""
        with suppress(OSError):  # it has died while it was idle: wait() will say so
            worker.connection.send(shard)

    def wait(self, busy: Collection[ChildProgram]) -> tuple[ChildProgram, str | None]:
        """Passes on what workers log meanwhile."""
        workers = {worker.connection: worker for worker in busy}
        while True:
            for ready in wait(list(workers)):
                worker = next(worker for connection, worker in workers.items() if connection is ready)
                try:
                    kind, content = worker.connection.recv()
                except (EOFError, OSError):
                    return worker, f"{worker.how_it_ended()}; {worker.keep_log()}"
                if kind == "error":
                    raise content
                if kind == "done":
                    return worker, None
                getLogger(content.name).handle(content)

    def _start(self, device: Device) -> ChildProgram:
        # Where this process finds modules, so do they: a project's src/, a user's own parts.
        paths = os.pathsep.join(filter(None, sys.path))
        environment = {**os.environ, **device.environment, "PYTHONPATH": paths}
        cores = ",".join(map(str, device.cores))
        worker = ChildProgram(WORKER, cores, environment=environment, log_name="selfie-worker")
        self._running[worker] = device
        with suppress(OSError):
            worker.connection.send_bytes(self._open_worker)
        return worker
