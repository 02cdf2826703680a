"""MLflow may be down, or die half-way: the run goes on, and what it logged arrives with the next one."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from runs import run, write_to
from selfie.pipelines.training import nodes
from selfie.tracking.journal import JournalledClient
from servers import MlflowServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[MlflowServer]:
    """Not started yet."""
    server = MlflowServer(tmp_path_factory.mktemp("server"), empty_database)
    yield server
    server.kill()


def log_something(client: JournalledClient, first: int) -> str:
    """An experiment, run ``first`` in it, a metric's curve, an artefact; returns the run's name of our own."""
    run = client.create_run(client.experiment("journal", None), run_name=f"run {first}", tags={"namespace": "seeding"})
    client.log_batch(run.info.run_id, params=[Param("label_smoothing", "0.1")], tags=[RunTag("git_commit", "abc")])
    for step in range(3):
        client.log_batch(run.info.run_id, metrics=[Metric("win_rate", first + step, 1000 + step, step)])
    client.log_dict(run.info.run_id, {"answer": 42}, "summary.json")
    return run.info.run_id


def check(server: MlflowServer, first: int) -> None:
    client = MlflowClient(server.url)
    experiment = client.get_experiment_by_name("journal")
    (run,) = (r for r in client.search_runs([experiment.experiment_id]) if r.info.run_name == f"run {first}")
    assert run.data.params == {"label_smoothing": "0.1"}
    assert run.data.tags["namespace"] == "seeding"
    curve = client.get_metric_history(run.info.run_id, "win_rate")
    assert [(point.step, point.value) for point in curve] == [(step, first + step) for step in range(3)]
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["summary.json"]


def test_what_was_logged_without_a_server_arrives_later(server: MlflowServer, tmp_path: Path, caplog):
    """No server at all; then there is one, and it dies half-way; then it is back."""
    journal = tmp_path / "journal.jsonl"
    server.kill()
    began = time.monotonic()
    client = JournalledClient(server.url, journal)
    log_something(client, 10)
    client.close()
    assert time.monotonic() - began < 60
    assert "can't be reached" in caplog.text
    server.start()
    client = JournalledClient(server.url, journal)
    check(server, 10)
    run = log_something(client, 20)
    server.kill()
    client.log_batch(run, tags=[RunTag("late", "yes")])
    log_something(client, 30)
    client.close()
    server.start()
    client = JournalledClient(server.url, journal)
    client.close()
    for first in (10, 20, 30):
        check(server, first)
    found = MlflowClient(server.url)
    everything = found.search_runs([found.get_experiment_by_name("journal").experiment_id])
    runs = [run for run in everything if run.info.run_name in ("run 10", "run 20", "run 30")]
    assert len(runs) == 3  # nothing twice
    assert [run.info.run_name for run in runs if run.data.tags.get("late")] == ["run 20"]
    assert not client.pending
    assert len(journal.read_text().splitlines()) == 2  # what has arrived is not kept


def test_a_call_that_arrived_but_was_not_ticked_off_is_not_doubled(server: MlflowServer, tmp_path: Path):
    """The process is killed between the server's answer and the journal's line, of the run's creation too."""
    server.start()
    journal = tmp_path / "journal.jsonl"
    log_something(JournalledClient(server.url, journal), 40)
    lines = journal.read_text().splitlines(keepends=True)
    # The experiment's number is known to the process before it makes the run.
    journal.write_text("".join(line for n, line in enumerate(lines) if n < 2 or "done" not in line) + '{"id": "tor')
    JournalledClient(server.url, journal).close()
    check(server, 40)


def test_what_the_server_refuses_does_not_hold_up_the_rest(server: MlflowServer, tmp_path: Path, caplog):
    server.start()
    client = JournalledClient(server.url, tmp_path / "journal.jsonl")
    run = log_something(client, 50)
    client.log_batch(run, params=[Param("label_smoothing", "0.9")])  # a parameter can't be changed
    client.log_batch(run, tags=[RunTag("after", "yes")])
    client.close()
    assert "refused log_batch" in caplog.text
    assert not client.pending
    found = MlflowClient(server.url)
    runs = found.search_runs([found.get_experiment_by_name("journal").experiment_id])
    (there,) = (run for run in runs if run.info.run_name == "run 50")
    assert there.data.params == {"label_smoothing": "0.1"}
    assert there.data.tags["after"] == "yes"


def test_a_continued_run_is_one_run_in_mlflow(
    finished_run: Path, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Cut short in iteration 1, as by a kill, then by an error; continued; and a fourth time with nothing to do."""
    write_to(tmp_path, monkeypatch, empty_database)
    for prepared in ("01_raw/test/seed_0", "06_models/test/seed_0"):
        shutil.copytree(finished_run / prepared, tmp_path / prepared)
    train = nodes.train

    for end in (KeyboardInterrupt, RuntimeError):

        def dying(start, pairs, parameters, beta, iteration, *rest, end=end):
            if iteration == 1:
                raise end("cut short")
            return train(start, pairs, parameters, beta, iteration, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(nodes, "train", dying)
            with pytest.raises(end):
                run(iterations=1)
    run(iterations=1)
    run(iterations=1)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("test").experiment_id])
    names = sorted(run.info.run_name.split(" ")[0] for run in runs)
    assert names == ["initial", "policy_0", "policy_1", "test:"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    (parent,) = (run for run in runs if "whole loop" in run.info.run_name)
    assert "continued" in parent.data.tags
    curve = client.get_metric_history(parent.info.run_id, "win_rate")
    assert [point.step for point in curve] == [0, 1]
