"""Runs that nobody types as ``kedro run``: sessions, notebooks, Airflow's tasks, a server. None names a runner."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from click.testing import CliRunner
from kedro.framework.project import configure_project, pipelines
from kedro.framework.session import KedroServiceSession, KedroSession
from kedro.framework.startup import bootstrap_project
from mlflow import MlflowClient

from faults import in_a_child
from runs import PROJECT, run, write_to
from selfie.errors import AlreadyRunningError
from selfie.storage import rows
from selfie.storage.commit import is_committed
from selfie.storage.locks import RunLock
from servers import free_port, wait_until_ready

SCORES = "04_feature/test/iteration_1/scored_responses"
PAIRS = "05_model_input/test/iteration_1/pairs"
MADE_BY_SEEDING = ("06_models/test/policy_0", "07_model_output/test/initial", "07_model_output/test/seeding")
SECONDS = 240


@pytest.fixture
def empty(empty_database: Path, tmp_path: Path, monkeypatch) -> Path:
    """A folder for a run of preparation, seeding and report."""
    monkeypatch.setenv("SELFIE_ITERATIONS", "0")
    write_to(tmp_path / "data", monkeypatch, empty_database)
    bootstrap_project(PROJECT)
    return tmp_path / "data"


def airflow_task(node: str) -> None:
    """What a task of kedro-airflow's DAG does."""
    configure_project("selfie")
    with KedroSession.create(project_path=PROJECT, env="test", conf_source=PROJECT / "conf") as session:
        session.run(pipeline_names=["__default__"], node_names=[node])


def contents(data: Path, *folders: str) -> dict[str, bytes]:
    files = [file for folder in folders for file in (data / folder).rglob("*") if file.is_file()]
    assert files
    return {str(file.relative_to(data)): file.read_bytes() for file in files}


def parents(data: Path) -> list[tuple[str, str]]:
    """Pipelines and status of MLflow's runs that are nobody's child, the last one first."""
    client = MlflowClient(f"sqlite:///{data}/mlflow.db")
    found = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    own = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    return [(run.info.run_name.split(": ")[1].rsplit(" ", 1)[0], run.info.status) for run in own]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def dies_in_shard(monkeypatch: pytest.MonkeyPatch, number: int, die: Callable[[], None]) -> None:
    """Instead of committing this shard, of those that are committed from now on."""
    commit_folder, committed = rows.commit_folder, []

    def commit(path: Path, *arguments: Any) -> None:
        committed.append(path)
        if len(committed) == number:
            die()
        commit_folder(path, *arguments)

    monkeypatch.setattr(rows, "commit_folder", commit)


def test_a_session_goes_on_where_a_killed_one_was(run_data: Path, executed, caplog, monkeypatch):
    before = contents(run_data, SCORES, PAIRS)
    shutil.rmtree(run_data / SCORES)
    with monkeypatch.context() as patch:
        dies_in_shard(patch, 3, lambda: os.kill(os.getpid(), signal.SIGKILL))
        assert os.waitstatus_to_exitcode(in_a_child(run)) == -signal.SIGKILL
    left = {str(path) for path in run_data.rglob("shard-*") if path.is_dir() and is_committed(path)}
    assert len(left) == 2
    caplog.set_level(logging.DEBUG, logger="selfie.storage.shards")
    run()
    computed = {line.split(" ", 1)[1] for line in caplog.messages if line.startswith("computing ")}
    assert computed
    assert not computed & left
    assert set(executed()) == {"iteration_1.score_responses"}
    assert contents(run_data, SCORES, PAIRS) == before
    with KedroServiceSession.create(project_path=PROJECT, env="test") as service:
        service.run()
    assert executed() == {}


def test_airflow_runs_a_step_in_a_process_and_continues(empty: Path, finished_run: Path, monkeypatch):
    """One of the tasks is killed, and tried again. All together are one run in MLflow."""
    with KedroSession.create(PROJECT, env="test") as session:
        session.load_context()
    steps = [node.name for node in pipelines["__default__"].nodes]
    killed = "initial.generate_outputs"
    assert killed in steps
    for step in steps:
        if step == killed:
            with monkeypatch.context() as patch:
                dies_in_shard(patch, 2, lambda: os.kill(os.getpid(), signal.SIGKILL))
                assert os.waitstatus_to_exitcode(in_a_child(lambda: airflow_task(killed))) == -signal.SIGKILL
        assert in_a_child(lambda step=step: airflow_task(step)) == 0, step
    assert contents(empty, *MADE_BY_SEEDING) == contents(finished_run, *MADE_BY_SEEDING)
    assert parents(empty) == [("whole loop", "FINISHED")]
    made = {file: file.stat().st_mtime_ns for file in (empty / "06_models").rglob("*.safetensors")}
    for step in steps:
        if step.endswith(("pretrain_model", "train_policy", "summarise")):
            airflow_task(step)
    assert made == {file: file.stat().st_mtime_ns for file in made}
    assert parents(empty) == [("whole loop", "FINISHED")]
    run("reporting", beta=0.2)  # an ended run is not marked as killed by the next
    assert ("whole loop", "FINISHED") in parents(empty)


def test_a_locked_experiment_is_refused(run_data: Path, monkeypatch):
    shutil.rmtree(run_data / SCORES)
    reached, goes_on = run_data / "reached", run_data / "goes_on"

    def wait() -> None:
        reached.touch()
        wait_for(goes_on.exists)

    dies_in_shard(monkeypatch, 1, wait)
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            run()
            os._exit(0)
        os._exit(1)
    wait_for(reached.exists)
    before = contents(run_data, "05_model_input")
    with pytest.raises(AlreadyRunningError, match=f"another run works on this experiment: pid {child} on "):
        run()
    assert contents(run_data, "05_model_input") == before
    goes_on.touch()
    assert os.waitpid(child, 0)[1] == 0
    run()


def test_a_process_is_at_one_run_at_a_time(run_data: Path, monkeypatch):
    """Threads of a server: the second is refused, for another experiment too, and the first is none the worse."""
    shutil.rmtree(run_data / SCORES)
    reached, goes_on = threading.Event(), threading.Event()
    dies_in_shard(monkeypatch, 1, lambda: (reached.set(), goes_on.wait(SECONDS)))
    first = threading.Thread(target=run)
    first.start()
    assert reached.wait(SECONDS)
    for parameters in ({}, {"experiment": "another"}):
        with pytest.raises(AlreadyRunningError, match="a process runs one at a time"):
            run(**parameters)
    with pytest.raises(AlreadyRunningError, match="another run works on this experiment"):
        RunLock(run_data / "08_reporting/test/.lock").acquire()
    goes_on.set()
    first.join(SECONDS)
    assert is_committed(run_data / SCORES)
    run()


def test_an_interrupted_run_lets_go_of_the_experiment(run_data: Path, monkeypatch):
    """A notebook's process lives on after Ctrl-C, and after a run that was refused."""
    shutil.rmtree(run_data / SCORES)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        dies_in_shard(patch, 1, interrupt)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert in_a_child(run) == 0
    assert parents(run_data)[0] == ("whole loop", "FINISHED")


def test_the_name_of_kedros_default_runner_continues_and_another_repeats(run_data: Path, executed, caplog, monkeypatch):
    from selfie.cli import run as command

    monkeypatch.chdir(PROJECT)
    made = run_data / PAIRS / "state.json"
    options = ["--env", "test", "--pipelines", "judging", "--runner"]
    before = made.stat().st_mtime_ns
    assert CliRunner().invoke(command, [*options, "SequentialRunner"], catch_exceptions=False).exit_code == 0
    assert executed() == {}
    assert made.stat().st_mtime_ns == before
    plain = "kedro.runner.sequential_runner.SequentialRunner"
    assert CliRunner().invoke(command, [*options, plain], catch_exceptions=False).exit_code == 0
    assert "repeats every step, fresh or not" in caplog.text
    assert made.stat().st_mtime_ns > before


def text_of(output: Any) -> str:
    """What a cell has printed, or shown, as the log does."""
    return output.get("text") or output.get("data", {}).get("text/plain", "")


def test_a_notebook(run_data: Path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="needs the extra `dev`")
    pytest.importorskip("ipykernel", reason="needs the extra `dev`")
    from nbformat.v4 import new_code_cell, new_notebook

    shutil.rmtree(run_data / PAIRS)
    monkeypatch.setenv("KEDRO_ENV", "test")
    cells = [
        "import time\n%load_ext kedro.ipython",
        "time.sleep(2); began = time.monotonic(); session.run(); print('seconds', time.monotonic() - began)",
        "%reload_kedro\nsession.run()",
    ]
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    resources = {"metadata": {"path": str(PROJECT)}}
    nbclient.NotebookClient(notebook, timeout=SECONDS, resources=resources).execute()
    texts = ["".join(map(text_of, cell.outputs)) for cell in notebook.cells]
    assert "iteration_1.judge_responses:" in texts[1]
    (seconds,) = [float(line.split()[1]) for line in texts[1].splitlines() if line.startswith("seconds ")]
    timings = json.loads((run_data / "08_reporting/test/timings.json").read_text())
    assert 0 < timings["iteration_1.judge_responses"]["seconds"] < seconds
    assert "judge_responses:" not in texts[2]
    assert "were committed and fresh" in " ".join(texts[2].split())
    assert parents(run_data)[0] == ("whole loop", "FINISHED")


@contextmanager
def server(log: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """``kedro server start``, as typed."""
    port = free_port()
    command = [sys.executable, "-m", "kedro", "server", "start", "--env", "test", "--port", str(port)]
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=PROJECT, stdout=file, stderr=file, env={**os.environ, "COLUMNS": "200"})
    try:
        wait_until_ready(f"http://127.0.0.1:{port}/health", process, log)
        yield process, f"http://127.0.0.1:{port}/run"
    finally:
        process.kill()
        process.wait()


def post(url: str, until_killed: bool = False, **request: Any) -> dict[str, Any]:
    """Asks for a run, and waits for its end."""
    body = Request(url, json.dumps(request).encode(), {"Content-Type": "application/json"})
    with suppress(*([OSError] if until_killed else [])), urlopen(body, timeout=SECONDS) as answer:
        return json.load(answer)
    return {}


def test_a_server(empty: Path, finished_run: Path, tmp_path: Path):
    """It is killed in its first run; while it runs, neither it nor another process begins a second one."""
    pytest.importorskip("fastapi", reason="Kedro's server needs it")
    model = empty / "06_models/test/seed_0/initial_model"
    with server(tmp_path / "first.log") as (process, url):
        threading.Thread(target=lambda: post(url, until_killed=True), daemon=True).start()
        wait_for(lambda: is_committed(model))
        refused = post(url, pipeline_names=["reporting"])
        assert (refused["status"], refused["error"]["type"]) == ("failure", "AlreadyRunningError")
        assert "a process runs one at a time" in refused["error"]["message"]
        with pytest.raises(AlreadyRunningError, match=f"another run works on this experiment: pid {process.pid} on "):
            run()
    with server(tmp_path / "second.log") as (_, url):
        assert post(url, params={"beta": -1.0})["error"]["type"] == "ConfigurationError"
        assert post(url)["status"] == "success"
        log = (tmp_path / "second.log").read_text()
        assert "steps were committed and fresh and were skipped" in " ".join(log.split())
        assert "pretrain_model: " not in log
        assert post(url)["duration_ms"] < SECONDS * 1000
        assert (tmp_path / "second.log").read_text().count("Running node: summarise:") == 1
    assert contents(empty, *MADE_BY_SEEDING) == contents(finished_run, *MADE_BY_SEEDING)
    assert parents(empty) == [("whole loop", "FINISHED")]
