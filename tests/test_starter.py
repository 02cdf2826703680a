"""`kedro new --starter`: a project of a user's own, made and run as it is typed."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from runs import PROJECT
from selfie.errors import AlreadyRunningError
from selfie.storage.locks import RunLock


def start(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """``kedro …`` or ``selfie …`` in the folder, with this repository's package as the installed one."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SELFIE_", "MLFLOW_"))}
    environment = {**inherited, "PYTHONPATH": str(PROJECT / "src"), "HOME": str(folder.parent), "COLUMNS": "400"}
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def new(folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    """``kedro new`` with a file for what it would ask."""
    (folder / "answers.yml").write_text(json.dumps({"project_name": name}))
    words = ["--starter", str(PROJECT), "--directory", "starter", "--config", "answers.yml", "--telemetry", "no"]
    return start(folder, "kedro", "new", *words)


class Ran(NamedTuple):
    """A new project after its first run."""

    folder: Path
    done: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Ran]:
    """With one iteration, by an environment of its own that says nothing else."""
    folder = tmp_path_factory.mktemp("starter")
    made = new(folder, "Own Words")
    assert made.returncode == 0, made.stderr
    project = folder / "own-words"
    shutil.copy(empty_database, project / "mlflow.db")
    (project / "conf/test").mkdir()
    (project / "conf/test/globals.yml").write_text("iterations: 1\n")
    yield Ran(project, start(project, "kedro", "run", "--env", "test"))


def test_a_new_project_runs_the_small_loop(project: Ran):
    assert project.done.returncode == 0, project.done.stderr
    assert "Kedro project own_words" in project.done.stdout
    summary = json.loads((project.folder / "data/08_reporting/test/summary.json").read_text())
    assert [row["name"] for row in summary["iterations"]] == ["initial", "policy_0", "policy_1"]
    assert (project.folder / "data/08_reporting/test/report.html").exists()
    assert (project.folder / ".telemetry").read_text() == "consent: false"


def test_a_second_run_waits_for_none_and_goes_on_where_the_first_stopped(project: Ran):
    lock = RunLock(project.folder / "data/08_reporting/test/.lock")
    lock.acquire()
    try:
        beside = start(project.folder, "kedro", "run", "--env", "test")
    finally:
        lock.release()
    assert beside.returncode == AlreadyRunningError.exit_code, beside.stderr
    assert "another run works on this experiment" in beside.stderr
    after = start(project.folder, "kedro", "run", "--env", "test")
    assert after.returncode == 0, after.stderr
    assert "steps were committed and fresh and were skipped" in after.stdout


def test_selfie_is_the_projects_command_and_hears_a_changed_parameter(project: Ran):
    (project.folder / "conf/test/parameters.yml").write_text("evaluation: {bootstrap_samples: 150}\n")
    status = start(project.folder, "selfie", "status", "--env", "test")
    assert "evaluation.bootstrap_samples was 200, is 150" in status.stdout, status.stderr
    assert "│ iteration_1 │ training    │ done" in status.stdout


def test_a_name_that_would_hide_a_package_is_refused(tmp_path: Path):
    done = new(tmp_path, "Selfie")
    assert done.returncode != 0
    assert "The package selfie is installed" in done.stdout + done.stderr
    assert not (tmp_path / "selfie").exists()
