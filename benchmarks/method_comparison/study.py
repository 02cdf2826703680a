"""Methods compared on the synthetic task, over many seeds: ``make synthetic``.

Every run is ``kedro run --env synthetic --params method=…,seed=…``; all methods of a seed share its language, its
initial model and its prompts, and every sample's seed, so that they are paired. A run that is done is not repeated
unless its parameters or the project's code changed.
"""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from selfie.storage.commit import commit_text, is_committed

Record = dict[str, Any]


def run_study(
    project: Path, data: Path, seeds: Sequence[int], methods: Sequence[str], workers: int, env: str = "synthetic"
) -> list[Record]:
    """Runs what is missing, seeds in parallel; returns one record a run: ``method``, ``seed``, ``summary`` …

    Args:
        project: the project's folder.
        data: where runs write: what ``SELFIE_DATA`` says.
        seeds: of language, initial model and every run.
        methods: names in ``methods.yml``.
        workers: processes.
        env: the environment in ``conf/``, one whose language and initial model depend on the seed alone.
    """
    _open_tracking(project, env)
    records: list[Record] = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        waiting = [pool.submit(_run_seed, project, data, env, seed, list(methods)) for seed in seeds]
        for done in as_completed(waiting):
            records += done.result()
    return records


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
    """Workers share the cores by processes; threads of several would wait for each other."""
    import torch

    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    os.environ["TQDM_DISABLE"] = "1"


def _run_seed(project: Path, data: Path, env: str, seed: int, methods: list[str]) -> list[Record]:
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(project)
    folder = data / "08_reporting" / env / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    prepared = False
    for method in methods:
        target = folder / f"{method}_{seed}.json"
        fingerprint = _fingerprint(project, env, method, seed)
        record = json.loads(target.read_text()) if is_committed(target) else {}
        if record.get("fingerprint") != fingerprint:
            with (folder / f"{method}_{seed}.log").open("w") as log, redirect_stdout(log), redirect_stderr(log):
                if not prepared:
                    _session(project, env, "preparation", f"{env}_{seed}", seed=seed)
                    prepared = True
                _session(project, env, "loop", f"{env}_{seed}", method=method, seed=seed)
            summary = json.loads((data / "08_reporting" / f"{env}_{seed}_{method}" / "summary.json").read_text())
            seconds = summary["wall_seconds"]  # of all attempts, if earlier ones were cut short
            record = {"method": method, "seed": seed, "fingerprint": fingerprint, "seconds": seconds}
            record["summary"] = summary
            commit_text(target, json.dumps(record, indent=1))
            print(f"{method}, seed {seed}: {summary['iterations'][-1]['win_rate']:.1f}% in {seconds:.0f} s", flush=True)
        records.append(record)
    return records


def _session(project: Path, env: str, pipeline: str, experiment: str, **parameters: Any) -> None:
    """Every session writes to an experiment of its own: workers must not meet in a file.

    What an earlier study has committed and is fresh is not repeated.
    """
    from kedro.framework.session import KedroSession

    from selfie.app.runner import ContinuingRunner

    session: Any = KedroSession.create(project, env=env, runtime_params={**parameters, "experiment": experiment})
    with session:
        session.run(pipeline_names=[pipeline], runner=ContinuingRunner())


def _fingerprint(project: Path, env: str, method: str, seed: int) -> str:
    """Of what decides a run's result: its parameters, the loop's shape and the code."""
    from kedro.framework.session import KedroSession

    session: Any = KedroSession.create(project, env=env, runtime_params={"method": method, "seed": seed})
    with session:
        context = session.load_context()
        settings = [context.params, context.config_loader["globals"]]
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for file in sorted((project / "src").rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
