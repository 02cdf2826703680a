"""A program: three Ray nodes on this machine, and what ``sys.argv`` asks for. It starts Ray on the loopback only."""

import os
import sys
import threading
import time
from pathlib import Path

os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
import psutil
import ray
from ray.cluster_utils import Cluster

from sampled import sample_two
from selfie.config.execution import ExecutionParameters
from selfie.errors import UserError
from selfie.execution.map_shards import check_execution
from selfie.models.checkpoint import Checkpoint
from selfie.storage.rows import load_rows
from selfie.storage.shards import Shards


def main(task: str, folder: Path, model: str) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    execution = ExecutionParameters(backend="ray", ray_address=cluster.address)
    try:
        if task == "lose a node":
            check_execution(execution)
            threading.Thread(target=remove, args=(cluster, nodes[0], folder / "shards"), daemon=True).start()
            sample_two(Checkpoint(model), load_rows(folder / "prompts"), Shards(folder / "shards", 1, execution))
        if task == "other versions":
            cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": f"{folder}:{os.environ['PYTHONPATH']}"})
            check_execution(execution)
        if task == "too many":
            check_execution(execution.model_copy(update={"workers": 4}))
    except UserError as error:
        print(error.format_message())
    finally:
        listening = [
            socket.laddr.ip
            for process in [psutil.Process(), *psutil.Process().children(recursive=True)]
            for socket in process.net_connections("inet")
            if socket.status == psutil.CONN_LISTEN
        ]
        print("listens on", sorted(set(listening)), flush=True)
        ray.shutdown()
        cluster.shutdown()


def remove(cluster: Cluster, node: object, shards: Path) -> None:
    while not list(shards.glob("shard-*")):
        time.sleep(0.02)
    cluster.remove_node(node, allow_graceful=False)
    print("removed a node with", len(list(shards.glob("shard-*"))), "shards there", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
