"""A stage as a map over shards: a worker opens its model once, and computes and commits one shard after the other."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from datasets import Dataset

from selfie.config.execution import ExecutionParameters
from selfie.execution.local_pool import LocalPool, local_devices
from selfie.execution.pool import share_out
from selfie.execution.ray_pool import RayPool, check_cluster
from selfie.storage.shards import Compute, Shard, Shards

OpenWorker = Callable[[], AbstractContextManager[Compute]]
"""Opens what computes shards, such as a model. It is pickled for processes that open it: a function of a module, or a
partial of one. Memory-mapped tables among its arguments travel by name, others whole."""


def map_shards(open_worker: OpenWorker, shards: Shards | None, count: int) -> Dataset:
    """The results of all rows, in order; where every shard is committed already, nothing is opened.

    What comes of a shard depends on its rows alone, never on how many workers there are.

    Args:
        open_worker: see :data:`OpenWorker`.
        shards: where shards are committed, and who computes them; without, all is done here, in one piece.
        count: how many rows there are.

    Returns:
        Memory-mapped from the shards' files.

    Raises:
        UserError: what a worker raised.
        EngineError: workers died again and again over one shard, or while they opened; names it and the last log.
    """
    if shards is None:
        with open_worker() as compute:
            return compute(range(count))
    missing = shards.missing(count)
    if missing:
        _commit(open_worker, missing, shards.execution)
    return shards.read(count)


def check_execution(execution: ExecutionParameters) -> None:
    """Raises ConfigurationError where these workers can't be: too many of them, no Ray, other versions on a node."""
    if execution.backend == "local":
        local_devices(execution.workers)
    else:
        check_cluster(execution)


def _commit(open_worker: OpenWorker, missing: list[Shard], execution: ExecutionParameters) -> None:
    if execution.backend == "ray":
        with RayPool(open_worker, len(missing), execution) as actors:
            share_out(actors, missing)
        return
    devices = local_devices(execution.workers)
    if len(devices) == 1:
        with open_worker() as compute:
            for shard in missing:
                shard.commit(compute)
        return
    with LocalPool(open_worker, devices[: len(missing)]) as processes:
        share_out(processes, missing)
