"""What studies over many seeds share: runs in several processes, each with one thread and one seed at a time."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from typing import Any

from selfie.storage.remote import environment

Record = dict[str, Any]


def seed_numbers(text: str) -> list[int]:
    """``0-9`` or ``1,3,5`` as numbers."""
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def data_folder() -> Path:
    """Where runs write on this machine: what ``SELFIE_DATA`` says, or the local folder of the bucket that it names."""
    return Path(environment("SELFIE_DATA", "data") or "data")


def run_over_seeds(
    project: Path, env: str, run_seed: Callable[[int], list[Record]], seeds: Sequence[int], workers: int
) -> list[Record]:
    """All records of all seeds, in the order in which seeds are done.

    Args:
        project: the project's folder.
        env: the environment in ``conf/``.
        run_seed: a seed → its records; called in other processes, so a function of a module or a partial of one.
        seeds: of language, initial model and every run.
        workers: processes.
    """
    _open_tracking(project, env)
    records: list[Record] = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        for done in as_completed([pool.submit(run_seed, seed) for seed in seeds]):
            records += done.result()
    return records


def run_pipeline(
    project: Path,
    env: str,
    pipeline: str,
    experiment: str,
    conf: Path | None = None,
    to_outputs: Sequence[str] | None = None,
    **parameters: Any,
) -> None:
    """``kedro run --env ENV --pipelines PIPELINE``, in this process.

    What an earlier study has committed and is fresh is not repeated.

    Args:
        project: the project's folder.
        env: the environment in ``conf/``.
        pipeline: its name.
        experiment: one of its own: workers must not meet in a file.
        conf: the configuration's folder, where it is another one than the project's.
        to_outputs: only what leads to these datasets.
        parameters: as ``--params`` gives them.
    """
    from kedro.framework.session import KedroSession

    given = {**parameters, "experiment": experiment}
    source = str(conf) if conf else None
    session: Any = KedroSession.create(project, env=env, conf_source=source, runtime_params=given)
    with session:
        session.run(pipeline_names=[pipeline], to_outputs=to_outputs)


def load_catalog(project: Path, env: str | None = None, **parameters: Any) -> Any:
    """The catalog of a run, its parameters too (``params:NAME``).

    Args:
        project: the project's folder.
        env: the environment in ``conf/``; None: the base one.
        parameters: as ``--params`` gives them.
    """
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(project)
    session: Any = KedroSession.create(project, env=env, runtime_params=parameters)
    with session:
        return session.load_context().catalog


def fingerprint(project: Path, env: str, **parameters: Any) -> str:
    """Of what decides a run's result: its parameters, the loop's shape and the code."""
    from kedro.framework.session import KedroSession

    session: Any = KedroSession.create(project, env=env, runtime_params=parameters)
    with session:
        context = session.load_context()
        settings = [context.params, context.config_loader["globals"]]
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for file in sorted((project / "src").rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _open_tracking(project: Path, env: str) -> None:
    """Makes MLflow's tables before several processes would do so at once."""
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project
    from mlflow import MlflowClient

    bootstrap_project(project)
    session: Any = KedroSession.create(project, env=env)
    with session:
        uri = session.load_context().config_loader["mlflow"]["tracking_uri"]
    MlflowClient(uri).search_experiments()


def _one_thread() -> None:
    """Workers share the cores by processes; threads of several would wait for each other. They end with the study."""
    import torch

    Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()

    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    os.environ["TQDM_DISABLE"] = "1"


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
