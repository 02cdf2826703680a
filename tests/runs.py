"""Runs of the project in the tests' own process, and what one of them leaves for many tests."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from selfie.app.runner import ContinuingRunner

PROJECT = Path(__file__).parents[1]


@contextmanager
def session(env: str = "test", conf_source: Path | None = None, **parameters: Any) -> Iterator[KedroSession]:
    """What ``kedro run --env ENV --params PARAMETERS`` opens."""
    bootstrap_project(PROJECT)
    conf = str(conf_source) if conf_source else None
    with KedroSession.create(PROJECT, env=env, conf_source=conf, runtime_params=parameters) as opened:
        yield opened


def run(
    *names: str, env: str = "test", conf_source: Path | None = None, fresh: bool = False, **parameters: Any
) -> None:
    """What ``kedro run --env ENV --pipelines NAMES --params PARAMETERS`` does, without the command line."""
    with session(env, conf_source, **parameters) as opened:
        opened.run(pipeline_names=list(names) or None, runner=ContinuingRunner(fresh=True) if fresh else None)


def write_to(folder: Path, patch: pytest.MonkeyPatch, empty_database: Path) -> None:
    """Runs write their data to the folder, and track in a new MLflow database there."""
    folder.mkdir(exist_ok=True)
    if not (folder / "mlflow.db").exists():
        shutil.copy(empty_database, folder / "mlflow.db")
    patch.setenv("SELFIE_DATA", str(folder))
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")


@contextmanager
def copy_of_run(source: Path, folder: Path, empty_database: Path) -> Iterator[Path]:
    """The data of a run, copied to ``folder / "data"``, where further runs write meanwhile."""
    data = Path(shutil.copytree(source, folder / "data"))
    with pytest.MonkeyPatch.context() as patch:
        write_to(data, patch, empty_database)
        yield data


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that is made in the first of pytest's processes that asks for it; the others find it."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            try:
                folder.mkdir()
                make(folder)
            except BaseException:
                shutil.rmtree(folder)
                raise
    return folder
