"""The watchdog over vLLM's process. The process is a fake, though a real process: who waits for it is tested."""

import os
import time
from multiprocessing.connection import Connection

import psutil
import pytest

from selfie.checkpoints import Checkpoint, compute_device
from selfie.generation import vllm_engine
from selfie.generation.engine import Request, Response, Sampling
from selfie.generation.vllm_engine import EngineError, VllmEngine

SAMPLING = Sampling(temperature=1.0, top_p=1.0, max_new_tokens=4)
REQUESTS = [Request([1, 2], seed) for seed in range(3)]


def silent_from_the_start(connection: Connection, checkpoint: Checkpoint, max_length: int, eager: bool) -> None:
    time.sleep(600)


def silent_after_one_answer(connection: Connection, checkpoint: Checkpoint, max_length: int, eager: bool) -> None:
    connection.send(None)
    requests, _ = connection.recv()
    connection.send([Response([7], "length")] * len(requests))
    time.sleep(600)


def dying(connection: Connection, checkpoint: Checkpoint, max_length: int, eager: bool) -> None:
    connection.send(None)
    connection.recv()
    os._exit(17)


def slow_but_alive(connection: Connection, checkpoint: Checkpoint, max_length: int, eager: bool) -> None:
    connection.send(None)
    for _ in range(2):
        requests, _ = connection.recv()
        time.sleep(0.7)
        connection.send([Response([7], "length")] * len(requests))


@pytest.fixture
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> VllmEngine:
    """Gives up after a second of silence."""
    monkeypatch.setattr(vllm_engine, "_serve", request.param)
    monkeypatch.setattr(vllm_engine, "POLL_SECONDS", 0.1)
    silence = 60.0 if request.param in (dying, slow_but_alive) else 1.0
    return VllmEngine(Checkpoint("nowhere"), max_length=64, silence=silence)


def no_process_is_left(engine: VllmEngine) -> bool:
    return not psutil.pid_exists(engine.process.pid or 0)


@pytest.mark.parametrize("engine", [silent_from_the_start], indirect=True)
def test_silence_while_loading(engine: VllmEngine):
    with pytest.raises(EngineError, match=r"silent for 0\.0167 minutes"):
        engine.__enter__()
    assert no_process_is_left(engine)


@pytest.mark.parametrize("engine", [silent_after_one_answer], indirect=True)
def test_silence_while_sampling(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch):
    """The first chunk is answered, the second never; the engine's process is ended, and whoever waits is told."""
    engine.silence = 60.0  # a new process takes its time to start
    monkeypatch.setattr(vllm_engine, "CHUNK", 2)
    with engine:
        engine.silence = 1.0
        with pytest.raises(EngineError, match="silent"):
            engine.generate(REQUESTS, SAMPLING)
        assert no_process_is_left(engine)


@pytest.mark.parametrize("engine", [dying], indirect=True)
def test_a_process_that_dies_is_noticed_at_once(engine: VllmEngine):
    with engine:
        began = time.monotonic()
        with pytest.raises(EngineError, match="exit code 17"):
            engine.generate(REQUESTS, SAMPLING)
        assert time.monotonic() - began < 20


@pytest.mark.parametrize("engine", [slow_but_alive], indirect=True)
def test_answers_wind_the_watchdog_up(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch):
    """Two chunks of 0.7 s each are no silence of a second."""
    monkeypatch.setattr(vllm_engine, "CHUNK", 2)
    with engine:
        engine.silence = 1.2
        assert len(engine.generate(REQUESTS, SAMPLING)) == 3
    assert no_process_is_left(engine)


@pytest.mark.skipif(compute_device().type != "cpu", reason="an accelerator always samples with the compiled model")
def test_few_tokens_are_not_worth_compiling_for():
    assert [VllmEngine(Checkpoint("nowhere"), 64, tokens).eager for tokens in (0, 149_999, 150_000)] == [1, 1, 0]
