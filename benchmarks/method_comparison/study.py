"""Methods compared over many seeds: ``make synthetic``, ``make study``.

Every run is ``kedro run --env ENV --params method=…,seed=…``; all methods of a seed share its initial model and its
prompts, and every sample's seed, so that they are paired; they begin with what the seed's first method has made, as far
as their parameters make the same of it. A run that is done is not repeated unless its parameters or the project's code
changed.
"""

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

from benchmarks.runs_over_seeds import Record, fingerprint, run_over_seeds, run_pipeline
from selfie.storage.commit import commit_text, is_committed

LEFT = shutil.ignore_patterns(".workspace*", ".lock", ".mlflow")  # unfinished work, and what names the run itself


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
    run_seed = partial(_run_seed, project, data, env, methods=list(methods))
    return run_over_seeds(project, env, run_seed, seeds, workers)


def _run_seed(project: Path, data: Path, env: str, seed: int, methods: list[str]) -> list[Record]:
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(project)
    folder = data / "08_reporting" / env / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    prepared = False
    for method in methods:
        target = folder / f"{method}_{seed}.json"
        current = fingerprint(project, env, method=method, seed=seed)
        record = json.loads(target.read_text()) if is_committed(target) else {}
        if record.get("fingerprint") != current:
            with (folder / f"{method}_{seed}.log").open("w") as log, redirect_stdout(log), redirect_stderr(log):
                if not prepared:
                    run_pipeline(project, env, "preparation", f"{env}_{seed}", seed=seed)
                    prepared = True
                if method != methods[0]:
                    begin_with(data, f"{env}_{seed}_{methods[0]}", f"{env}_{seed}_{method}")
                run_pipeline(project, env, "loop", f"{env}_{seed}", method=method, seed=seed)
            summary = json.loads((data / "08_reporting" / f"{env}_{seed}_{method}" / "summary.json").read_text())
            seconds = summary["wall_seconds"]  # of all attempts, if earlier ones were cut short
            record = {"method": method, "seed": seed, "fingerprint": current, "seconds": seconds}
            record["summary"] = summary
            commit_text(target, json.dumps(record, indent=1))
            print(f"{method}, seed {seed}: {summary['iterations'][-1]['win_rate']:.1f}% in {seconds:.0f} s", flush=True)
        records.append(record)
    return records


def begin_with(data: Path, finished: str, experiment: str) -> None:
    """Gives a new experiment what another one has made; Kedro repeats the steps that would make something else.

    Files are linked, not copied: the project replaces files and never writes into one that is committed.

    Args:
        data: where runs write.
        finished: the experiment to take from; without unfinished work, lock and MLflow's run.
        experiment: the new one, which is left alone where there is anything of it.
    """
    for source in sorted(data.glob(f"0*/{finished}")):
        target = source.with_name(experiment)
        if not target.exists():
            shutil.copytree(source, target, copy_function=os.link, ignore=LEFT)
