"""One run for each rule, budget and seed: pairs are proposed, the gold annotator labels them, policy 0 is trained.

All of it by the project's own pipelines and commands in the synthetic language. A rule that looks at what a policy says
needs one, so half of its budget is labelled at random first, as a user would have to. The other half are then answers
of policy 0, whatever the rule; ``random_twice`` shows what that alone is worth.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks.runs_over_seeds import Record, fingerprint, run_over_seeds, run_pipeline
from selfie.app.labelling import merge_labels
from selfie.config.gold import GoldParameters
from selfie.config.labelling import INITIAL_MODEL
from selfie.judges.gold import gold_scorer
from selfie.labelling.label_file import LabelFile
from selfie.labelling.session import LabellingSession
from selfie.models.chat_template import as_text
from selfie.storage.commit import commit_text, is_committed

ENV = "synthetic"
LABELLED = "${globals:data}/01_raw/labels/${runtime_params:experiment}/merged/preferences.jsonl"
POLICY = "policy_0"
RULES = {  # the rounds of labels: who chooses the pairs, and who gives the answers
    "random": [("random", INITIAL_MODEL)],
    "diverse": [("diverse", INITIAL_MODEL)],
    "random_twice": [("random", INITIAL_MODEL), ("random", POLICY)],
    "uncertain": [("random", INITIAL_MODEL), ("uncertain", POLICY)],
    "disagreement": [("random", INITIAL_MODEL), ("disagreement", POLICY)],
}


def run_study(
    project: Path,
    data: Path,
    seeds: Sequence[int],
    budgets: Sequence[int],
    rules: Sequence[str],
    workers: int,
    env: str = ENV,
) -> list[Record]:
    """Runs what is missing, seeds in parallel; one record a run.

    A record has ``rule``, ``budget``, ``seed``, ``win_rate`` of policy 0 in percent, ``labels``, ``ties``, ``seconds``.

    Args:
        project: the project's folder.
        data: where runs write: what ``SELFIE_DATA`` says.
        seeds: of language, initial model and every run.
        budgets: pairs to label.
        rules: names in ``RULES``.
        workers: processes.
        env: the environment in ``conf/``.
    """
    with tempfile.TemporaryDirectory() as folder:
        conf = _conf_with_labels(project, Path(folder), env)
        run_seed = partial(_run_seed, project, data, conf, env, budgets=list(budgets), rules=list(rules))
        return run_over_seeds(project, env, run_seed, seeds, workers)


def _run_seed(
    project: Path, data: Path, conf: Path, env: str, seed: int, budgets: list[int], rules: list[str]
) -> list[Record]:
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(project)
    folder = data / "08_reporting/label_selection/runs"
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    prepared = False
    for budget in budgets:
        for rule in rules:
            name = f"{rule}_{budget}_{seed}"
            target = folder / f"{name}.json"
            rounds = {"rounds": RULES[rule], "budget": budget}
            current = f"{fingerprint(project, env, seed=seed)} {json.dumps(rounds)}"
            record = json.loads(target.read_text()) if is_committed(target) else {}
            if record.get("fingerprint") != current:
                with (folder / f"{name}.log").open("w") as log, redirect_stdout(log), redirect_stderr(log):
                    if not prepared:  # what all runs of the seed share is no run's time
                        run_pipeline(project, env, "preparation", f"{env}_{seed}", seed=seed)
                        prepared = True
                    began = time.monotonic()
                    result = _run(project, data, conf, env, f"labels_{name}", RULES[rule], budget, seed)
                record = {"rule": rule, "budget": budget, "seed": seed, "fingerprint": current, **result}
                record["seconds"] = time.monotonic() - began
                commit_text(target, json.dumps(record, indent=1))
                said = f"{rule}, budget {budget}, seed {seed}: {record['win_rate']:.1f}% in {record['seconds']:.0f} s"
                print(said, flush=True)
            records.append(record)
    return records


def _run(
    project: Path,
    data: Path,
    conf: Path,
    env: str,
    experiment: str,
    rounds: list[tuple[str, str]],
    budget: int,
    seed: int,
) -> Record:
    """Labels the budget in equal rounds; each trains policy 0 anew, from all labels until then."""
    # Labels of a run that was cut short would be asked for again, beyond the budget: it begins anew.
    shutil.rmtree(data / "01_raw/labels" / experiment, ignore_errors=True)
    last = len(rounds) - 1
    for number, (selection, policy) in enumerate(rounds):
        share = budget * (number + 1) // len(rounds) - budget * number // len(rounds)
        labelling = {"selection": selection, "policy": policy, "budget": share}
        run_pipeline(project, env, "propose_labels", experiment, seed=seed, labelling=labelling)
        counts = _label(project, env, experiment, seed)
        outputs = None if number == last else [POLICY]
        trained = {"iterations": 0, "seed_pairs": budget}
        run_pipeline(project, env, "loop", experiment, conf, outputs, seed=seed, **trained)
    summary = json.loads((data / "08_reporting" / experiment / "summary.json").read_text())
    return {"win_rate": summary["iterations"][-1]["win_rate"], **counts}


def _label(project: Path, env: str, experiment: str, seed: int) -> dict[str, int]:
    """The gold annotator answers for the human: as through the page, and merged as by ``selfie labels``."""
    from kedro.framework.session import KedroSession

    parameters = {"experiment": experiment, "seed": seed}
    session: Any = KedroSession.create(project, env=env, runtime_params=parameters)
    with session:
        context = session.load_context()
        catalog = context.catalog
        scorer = gold_scorer(GoldParameters.model_validate(context.params["gold"]))
    rows, _ = catalog.get("pairs_to_label").inspect()
    file = LabelFile(catalog.load("labels"), "gold")
    page = LabellingSession(rows, file, file.open(), seed)
    while pair := page.state()["pair"]:
        left, right = (scorer(as_text(pair["messages"]), answer["text"]) for answer in pair["answers"])
        page.label(pair["id"], "tie" if left == right else "left" if left > right else "right", 0.0)
    page.close()
    merged = merge_labels(catalog, seed)
    return {"labels": len(merged.preferences), "ties": len(merged.ties)}


def _conf_with_labels(project: Path, folder: Path, env: str) -> Path:
    """The project's configuration, with the merged labels of a run's experiment for seed preferences."""
    conf = Path(shutil.copytree(project / "conf", folder / "conf", ignore=shutil.ignore_patterns("local")))
    path = conf / env / "catalog.yml"
    catalog = yaml.safe_load(path.read_text())
    catalog["seed_preferences"] = {"type": "selfie.datasets.PreferenceDataset", "filepath": LABELLED}
    path.write_text(yaml.safe_dump(catalog))
    return conf
