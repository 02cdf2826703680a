"""Workers as actors of a Ray cluster (2.60), one a GPU, or on nodes without GPUs one a share of the cores.

Plain actors and none of Ray's own retries: an actor that waits for a place in the cluster must not hold a shard, since
after a node is lost it may wait until all others have ended. All nodes see the same files under the same names.
"""

import os
import pickle
import socket
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from typing import Any, Self

from selfie.config.execution import ExecutionParameters
from selfie.errors import ConfigurationError
from selfie.errors.disk_and_memory import explain
from selfie.execution.versions import other_versions, versions_here
from selfie.storage.shards import Shard

SECONDS_TO_ANSWER = 10
SECONDS_TO_IMPORT = 120


class ShardActor:
    """One worker, in a process that Ray starts on some node."""

    def open(self, versions: Mapping[str, str], open_worker: bytes) -> None:
        """Opens the model, if this node has these versions."""
        _refuse_others(versions, versions_here(), socket.gethostname())
        self._opened = ExitStack()
        self._compute = self._opened.enter_context(pickle.loads(open_worker)())

    def commit(self, shard: Shard) -> None:
        """Computes the shard and commits it."""
        folder = shard.file.parent
        if not folder.is_dir():
            problem = f"there is no {folder} on it"
            remedy = "set SELFIE_DATA to a folder that all nodes share, under one name"
            raise ConfigurationError(f"Ray node {socket.gethostname()}", problem, remedy)
        shard.commit(self._compute)


class RayPool:
    """A :class:`selfie.execution.pool.Pool` of actors.

    Args:
        open_worker: see :data:`selfie.execution.map_shards.OpenWorker`.
        shards: how many there are: no more workers than that.
        execution: where the cluster is, how many workers.
    """

    def __init__(self, open_worker: Callable[..., Any], shards: int, execution: ExecutionParameters):
        self._ray = connect(execution.ray_address)
        workers, resources = _share(self._ray, execution)
        self._count = min(workers, shards)
        self._actor = self._ray.remote(**resources)(ShardActor)
        self._open_worker = self._ray.put(pickle.dumps(open_worker))
        self._running: dict[Any, Any] = {}  # actor → what it does

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self._running:
            self._ray.kill(actor)

    def start(self) -> list[Any]:
        """As many as the parameter says; those without a place in the cluster wait for one."""
        return [self._start() for _ in range(self._count)]

    def replace(self, dead: Any) -> Any:
        """Wherever there is a place."""
        del self._running[dead]
        self._ray.kill(dead)
        return self._start()

    def give(self, worker: Any, shard: Shard) -> None:
        """By its name and the numbers of its rows."""
        self._running[worker] = worker.commit.remote(shard)

    def wait(self, busy: Collection[Any]) -> tuple[Any, str | None]:
        """A node that is lost takes its actors with it."""
        working = {self._running[actor]: actor for actor in busy}
        (done,), _ = self._ray.wait(list(working))
        try:
            self._ray.get(done)
        except self._ray.exceptions.RayTaskError as error:
            known = explain(error.cause)
            if known is not None:
                raise known from None
            return working[done], str(error)
        except self._ray.exceptions.RayError as error:
            return working[done], str(error)
        return working[done], None

    def _start(self) -> Any:
        actor = self._actor.remote()
        self._running[actor] = actor.open.remote(versions_here(), self._open_worker)
        return actor


def connect(address: str | None) -> Any:
    """The module ``ray``, connected to the cluster; without an address, to one on this machine for this process alone.

    That one has no dashboard, listens on the loopback only and reports no usage.

    Raises:
        ConfigurationError: Ray is not installed, or nothing answers at the address, or it is no Ray of this version.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address is None:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # so Ray calls a node that others can reach
    try:
        import ray
    except ImportError as error:
        remedy = "install the extra `ray`, or set it to local"
        raise ConfigurationError("parameter execution.backend", "Ray is not installed", remedy) from error
    if ray.is_initialized():
        return ray
    environment = {"TQDM_DISABLE": "1"}  # bars of several workers in one log
    if address is None:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        ray.init("local", include_dashboard=False, logging_level="warning", runtime_env={"env_vars": environment})
        return ray
    try:
        host, _, port = address.removeprefix("ray://").rpartition(":")
        socket.create_connection((host, int(port)), SECONDS_TO_ANSWER).close()  # Ray itself tries for minutes
        ray.init(address, logging_level="warning", runtime_env={"env_vars": environment})
    except (OSError, ValueError, RuntimeError) as error:
        problem = f"no Ray cluster answers at {address} ({error})"
        remedy = "start one (`ray start --head`), mend the address, or set it to null for Ray on this machine"
        raise ConfigurationError("parameter execution.ray_address", problem, remedy) from error
    return ray


def check_cluster(execution: ExecutionParameters) -> None:
    """Raises ConfigurationError where Ray does not answer, has too few devices, or a node has other versions."""
    ray = connect(execution.ray_address)
    _share(ray, execution)
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(num_cpus=0, max_retries=0)(versions_here)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    places = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
    answers = [ask.options(scheduling_strategy=place).remote() for place in places]
    for node, answer in zip(nodes, answers, strict=True):
        name = node["NodeManagerHostname"]
        try:
            theirs = ray.get(answer, timeout=SECONDS_TO_IMPORT)
        except ray.exceptions.RayError as error:
            problem = f"it does not say which versions it has ({str(error).strip().splitlines()[-1]})"
            raise ConfigurationError(f"Ray node {name}", problem, "install there what is installed here") from error
        _refuse_others(versions_here(), theirs, name)


def _refuse_others(run: Mapping[str, str], node: Mapping[str, str], name: str) -> None:
    others = other_versions(run, node)
    if others:
        raise ConfigurationError(f"Ray node {name}", f"it has {others}", "install the same versions on both")


def _share(ray: Any, execution: ExecutionParameters) -> tuple[int, dict[str, int]]:
    """How many workers there are, and what each takes of the cluster."""
    cores = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    gpus = int(ray.cluster_resources().get("GPU", 0))
    available, kind = (gpus, "GPUs") if gpus else (sum(cores), "cores")
    automatic = gpus or sum(number > 0 for number in cores)
    workers = automatic if execution.workers == "auto" else execution.workers
    if not 0 < workers <= available:
        problem = f"{workers} workers need as many {kind}, and the cluster has {available}"
        raise ConfigurationError("parameter execution.workers", problem, "lower it, or add nodes")
    if gpus:
        return workers, {"num_gpus": 1, "num_cpus": 1}
    return workers, {"num_cpus": max(1, min(sum(cores) // workers, *filter(None, cores)))}
