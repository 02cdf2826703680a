"""Workers on a real Ray cluster of three nodes on this machine."""

import ast
import importlib.util
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import Dataset

from sampled import sample_two
from selfie.config.execution import ExecutionParameters
from selfie.errors import ConfigurationError
from selfie.execution.map_shards import check_execution
from selfie.models.checkpoint import Checkpoint
from selfie.storage.commit import file_sha256
from selfie.storage.shards import Shards

RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not RAY, reason="Ray is not installed: the extra `ray`")
PROGRAM = Path(__file__).with_name("ray_cluster.py")
MINUTES = 60


def on_a_cluster(task: str, folder: Path, model: str) -> str:
    """What the program printed."""
    (folder / "token").write_text(secrets.token_hex(32))
    (folder / "token").chmod(0o600)
    paths = os.pathsep.join(filter(None, sys.path))
    environment = {
        **os.environ,
        "PYTHONPATH": paths,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
    }
    command = [sys.executable, str(PROGRAM), task, str(folder), model]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=10 * MINUTES, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def files(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file_sha256(file) for file in folder.glob("shard-*/*")}


@needs_ray
def test_a_node_that_is_lost_while_it_samples_changes_nothing(
    prompts: Dataset, tiny_checkpoint: Checkpoint, tmp_path: Path
):
    said = on_a_cluster("lose a node", tmp_path, tiny_checkpoint.source)
    assert re.search(r"removed a node with \d+ shards there", said)
    listening = re.search(r"listens on (\[.*\])", said)
    assert listening
    assert {ip.removeprefix("::ffff:") for ip in ast.literal_eval(listening[1])} == {"127.0.0.1"}
    sample_two(tiny_checkpoint, prompts, Shards(tmp_path / "alone", 1))
    assert len(files(tmp_path / "alone")) > 24
    assert files(tmp_path / "shards") == files(tmp_path / "alone")


@needs_ray
def test_a_node_with_other_versions_is_refused(tiny_checkpoint: Checkpoint, tmp_path: Path):
    import transformers

    metadata = tmp_path / "transformers-1.2.3.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 1.2.3\n")
    said = on_a_cluster("other versions", tmp_path, tiny_checkpoint.source)
    assert f"it has transformers 1.2.3, the run has {transformers.__version__}" in said


@needs_ray
def test_more_workers_than_cores_are_refused(tiny_checkpoint: Checkpoint, tmp_path: Path):
    assert "4 workers need as many cores, and the cluster has 3" in on_a_cluster("too many", tmp_path, "")


@needs_ray
def test_an_address_that_does_not_answer_is_an_error_at_once():
    with pytest.raises(ConfigurationError, match=r"no Ray cluster answers at 127\.0\.0\.1:1 .*refused"):
        check_execution(ExecutionParameters(backend="ray", ray_address="127.0.0.1:1"))


@pytest.mark.skipif(RAY, reason="Ray is installed")
def test_without_ray_it_is_said_how_to_get_it():
    with pytest.raises(ConfigurationError, match="install the extra `ray`"):
        check_execution(ExecutionParameters(backend="ray"))
