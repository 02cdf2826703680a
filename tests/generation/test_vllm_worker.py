"""The worker program and who waits for it, for real, as processes; only vLLM itself is a fake."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from selfie.errors import EngineError, MemoryExhaustedError
from selfie.generation.engine import Request, Response, Sampling
from selfie.generation.vllm_engine import VllmEngine
from selfie.models.checkpoint import Checkpoint, compute_device
from selfie.runtime.signals import TerminatedError, exit_on_sigterm

SAMPLING = Sampling(temperature=1.0, top_p=1.0, max_new_tokens=4)
REQUESTS = [Request([1, 2], seed) for seed in range(3)]
FOREIGN = {"click", "flask", "kedro", "mlflow", "numpy", "torch", "transformers"}
PARENT = """
import sys
from selfie.models.checkpoint import Checkpoint
from selfie.generation.engine import Request, Sampling
from selfie.generation.vllm_engine import VllmEngine

with VllmEngine(Checkpoint("falls silent"), max_length=64) as engine:
    print(engine.process.pid, flush=True)
    engine.generate([Request([1], 0), Request([1], 1)], Sampling(1.0, 1.0, 4))
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the fake is the worker's vLLM, and logs are kept."""
    (tmp_path / "packages").mkdir()
    shutil.copy(Path(__file__).parent / "fake_vllm.py", tmp_path / "packages/vllm.py")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"), prepend=os.pathsep)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def engine() -> Callable[..., VllmEngine]:
    """``engine(what the fake does, …)``"""

    def make(model: str, silence: float = 60.0, **settings: object) -> VllmEngine:
        return VllmEngine(Checkpoint(model), max_length=64, silence=silence, **settings)

    return make


def is_gone(engine: VllmEngine) -> bool:
    return not psutil.pid_exists(engine.process.pid)


def seen(place: Path) -> dict[str, Any]:
    """What vLLM saw when it loaded."""
    return json.loads((place / "seen").read_text())


def kept_log(error: BaseException) -> str:
    (name,) = re.findall(r"\S+\.log", str(error))
    return Path(name).read_text()


def test_responses_come_in_the_order_of_the_requests(engine, place: Path):
    """The fake answers the last one first. Shard after shard goes to the same process, which leaves nothing."""
    with engine("good") as opened:
        assert opened.generate(REQUESTS, SAMPLING) == [Response([1, 2, seed, 0], "length") for seed in range(3)]
        assert opened.generate([Request([9], 2**40 + 7)], SAMPLING) == [Response([9, 7, 0], "stop")]
        assert opened.generate([], SAMPLING) == []
    assert is_gone(opened)
    assert not list(place.glob("*.log"))


def test_the_worker_imports_none_of_ours(engine, place: Path):
    """When vLLM loads, which looks through every module."""
    with engine("good", environment={"SEEN": str(place / "seen")}):
        loaded = seen(place)["modules"]
    assert not FOREIGN & {name.split(".")[0] for name in loaded}
    ours = ["selfie", "selfie.generation", "selfie.runtime", "selfie.runtime.parent_socket"]
    assert [name for name in loaded if name.startswith("selfie")] == ours


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_model_is_loaded_as_asked(engine, place: Path, dtype: str):
    with engine("good", dtype=dtype, environment={"SEEN": str(place / "seen")}):
        settings = seen(place)["settings"]
    assert settings["dtype"] == dtype
    assert settings["max_model_len"] == 64
    assert settings["trust_remote_code"] is False
    assert settings["load_format"] == "safetensors"
    assert settings["generation_config"] == "vllm"


@pytest.mark.skipif(compute_device().type != "cpu", reason="an accelerator's worker has no threads to speak of")
def test_waiting_threads_sleep_unless_the_user_decides_otherwise(engine, place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SEEN", str(place / "seen"))
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    with engine("good"):
        assert seen(place)["environment"]["OMP_WAIT_POLICY"] == "passive"
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    with engine("good"):
        assert seen(place)["environment"]["OMP_WAIT_POLICY"] == "active"


def test_two_side_by_side_each_on_a_device(engine):
    environments = [{"CUDA_VISIBLE_DEVICES": number} for number in "12"]
    with engine("good", environment=environments[0]) as one, engine("good", environment=environments[1]) as other:
        devices = [opened.generate(REQUESTS, SAMPLING)[0].token_ids[-1] for opened in (one, other)]
    assert devices == [1, 2]
    assert is_gone(one)
    assert is_gone(other)


def test_progress_moves_with_every_response(engine, capfd: pytest.CaptureFixture):
    with engine("slow") as opened:
        opened.generate(REQUESTS, SAMPLING)
    shown = capfd.readouterr().err
    assert all(f" {done}/3 " in shown for done in range(4))


def test_silence_while_loading(engine):
    loading = engine("slow to load", silence=1.0)
    with pytest.raises(EngineError, match=r"silent for 0\.0167 minutes"):
        loading.__enter__()
    assert is_gone(loading)


def test_silence_while_sampling(engine):
    """After the first response; what the worker had started ends with it."""
    with engine("falls silent") as opened:
        opened.silence = 1.0
        with pytest.raises(EngineError, match="silent"):
            opened.generate(REQUESTS, SAMPLING)
        assert is_gone(opened)
    group = [p for p in psutil.process_iter() if p.status() != "zombie" and os.getpgid(p.pid) == opened.process.pid]
    assert not group


def test_steps_are_signs_of_life(engine):
    """Six of 0.4 s, of which the last ends the response, are no silence of two seconds."""
    with engine("slower") as opened:
        opened.silence = 2.0
        assert len(opened.generate(REQUESTS[:1], SAMPLING)) == 1


@pytest.mark.parametrize(
    ("model", "kind", "words"),
    [("dies", EngineError, "exit code 17"), ("is killed", MemoryExhaustedError, "it was killed")],
)
def test_a_worker_that_dies_is_noticed_at_once(engine, model: str, kind: type, words: str):
    with engine(model) as opened:
        began = time.monotonic()
        with pytest.raises(kind, match=words):
            opened.generate(REQUESTS, SAMPLING)
        assert time.monotonic() - began < 20


def test_a_failure_quotes_its_log_and_names_it_without_secrets(engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret_of_mine")
    with pytest.raises(EngineError, match=r"RuntimeError: no such architecture, \*\*\*") as caught:
        engine("broken").__enter__()
    log = kept_log(caught.value)
    assert "Traceback" in log
    assert "hf_secret" not in log + str(caught.value)


def test_too_little_memory_is_said_so(engine):
    with pytest.raises(MemoryExhaustedError, match="No available memory") as caught:
        engine("too large").__enter__()
    assert "max_length" in caught.value.remedy


def test_sigterm_while_loading_leaves_no_worker(engine):
    loading = engine("slow to load")
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(TerminatedError), exit_on_sigterm():
        loading.__enter__()
    assert is_gone(loading)


def test_the_worker_of_a_killed_run_ends_with_what_it_has_started():
    """It asks nothing of its socket while it samples; a SIGKILL leaves the parent no time to say good-bye."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = psutil.Process(int(parent.stdout.readline()))
    while not worker.children():
        assert worker.is_running()
        time.sleep(0.05)
    family = [worker, *worker.children()]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    _, left = psutil.wait_procs(family, timeout=10)
    assert not left


@pytest.mark.skipif(compute_device().type != "cpu", reason="an accelerator always samples with the compiled model")
def test_few_tokens_are_not_worth_compiling_for():
    assert [VllmEngine(Checkpoint("nowhere"), 64, tokens).eager for tokens in (0, 149_999, 150_000)] == [1, 1, 0]
