"""One run for each rule, budget and seed: pairs are proposed, the gold annotator labels them, policy 0 is trained.

All of it by the project's own pipelines and commands in the synthetic language. ``uncertain`` needs a policy, so half
of its budget is labelled at random first, as a user would have to.
"""

import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

from selfie.app.labelling import merge_labels
from selfie.config.gold import GoldParameters
from selfie.config.labelling import INITIAL_MODEL
from selfie.evaluation.win_rate import mean_interval
from selfie.judges.gold import gold_scorer
from selfie.labelling.label_file import LabelFile
from selfie.labelling.session import LabellingSession
from selfie.models.chat_template import as_text
from selfie.reporting.tables import markdown_table
from selfie.storage.commit import commit_text, is_committed

ENV = "synthetic"
RESAMPLES = 9999
LABELLED = "${globals:data}/01_raw/labels/${runtime_params:experiment}/merged/preferences.jsonl"
Record = dict[str, Any]


def run_study(
    project: Path, data: Path, seeds: Sequence[int], budgets: Sequence[int], selections: Sequence[str], env: str = ENV
) -> list[Record]:
    """Runs what is missing; one record a run: ``selection``, ``budget``, ``seed``, ``win_rate``, ``labels``, ``ties``.

    Args:
        project: the project's folder.
        data: where runs write: what ``SELFIE_DATA`` says.
        seeds: of language, initial model and every run.
        budgets: pairs to label.
        selections: values of ``labelling.selection``.
        env: the environment in ``conf/``.
    """
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(project)
    records = []
    with tempfile.TemporaryDirectory() as folder:
        conf = _conf_with_labels(project, Path(folder), env)
        for seed in seeds:
            for budget in budgets:
                for selection in selections:
                    target = data / "08_reporting/label_selection/runs" / f"{selection}_{budget}_{seed}.json"
                    if not is_committed(target):
                        record = _run(project, data, conf, env, selection, budget, seed)
                        commit_text(target, json.dumps(record, indent=1))
                    records.append(json.loads(target.read_text()))
    return records


def collect(records: Sequence[Record]) -> list[Record]:
    """A row for each rule and budget: win rates over the seeds, their mean and 95% interval, and above ``random``'s."""
    by_rule: dict[tuple[str, int], list[Record]] = defaultdict(list)
    for record in records:
        by_rule[record["selection"], record["budget"]].append(record)
    rows = []
    for (selection, budget), runs in by_rule.items():
        wins = {run["seed"]: run["win_rate"] for run in runs}
        baseline = {run["seed"]: run["win_rate"] for run in by_rule.get(("random", budget), [])}
        above = [wins[seed] - baseline[seed] for seed in wins.keys() & baseline.keys()]
        row = {
            "selection": selection,
            "budget": budget,
            "win_rate": list(wins.values()),
            **_interval("", wins.values()),
        }
        row |= _interval("above_random_", above) if selection != "random" else {}
        rows.append({**row, "labels": mean(run["labels"] for run in runs), "ties": mean(run["ties"] for run in runs)})
    return rows


def markdown(results: Sequence[Record]) -> str:
    """The table for a page."""
    header = ["selection", "budget", "win rate % [95%]", "worst seed", "above random [95%]", "labels", "ties"]
    cells = []
    for row in results:
        low, high = row["ci"]
        above = "–"
        if row.get("above_random_mean") is not None:
            above = (
                f"{row['above_random_mean']:+.1f} [{row['above_random_ci'][0]:+.1f}, {row['above_random_ci'][1]:+.1f}]"
            )
        figures = [f"{row['mean']:.1f} [{low:.1f}, {high:.1f}]", f"{min(row['win_rate']):.1f}", above]
        cells.append([row["selection"], str(row["budget"]), *figures, f"{row['labels']:.0f}", f"{row['ties']:.0f}"])
    return markdown_table(header, cells)


def _interval(prefix: str, values: Any) -> Record:
    known = list(values)
    if not known:
        return {f"{prefix}mean": None, f"{prefix}ci": None}
    return {f"{prefix}mean": mean(known), f"{prefix}ci": list(mean_interval(known, RESAMPLES, seed=0))}


def _run(project: Path, data: Path, conf: Path, env: str, selection: str, budget: int, seed: int) -> Record:
    experiment = f"labels_{selection}_{budget}_{seed}"
    rounds = [(selection, INITIAL_MODEL, budget)]
    if selection == "uncertain":
        rounds = [("random", INITIAL_MODEL, budget // 2), (selection, "policy_0", budget - budget // 2)]
    common = {"experiment": experiment, "seed": seed}
    for rule, policy, share in rounds:
        labelling = {"selection": rule, "policy": policy, "budget": share}
        _session(project, env, None, "propose_labels", **common, labelling=labelling)
        counts = _label(project, env, **common)
        _session(project, env, conf, "loop", **common, iterations=0, seed_pairs=budget)
    summary = json.loads((data / "08_reporting" / experiment / "summary.json").read_text())
    win_rate = summary["iterations"][-1]["win_rate"]
    print(f"{selection}, budget {budget}, seed {seed}: {win_rate:.1f}%", flush=True)
    return {"selection": selection, "budget": budget, "seed": seed, "win_rate": win_rate, **counts}


def _label(project: Path, env: str, **parameters: Any) -> dict[str, int]:
    """The gold annotator answers for the human: as through the page, and merged as by ``selfie labels``."""
    from kedro.framework.session import KedroSession

    session: Any = KedroSession.create(project, env=env, runtime_params=parameters)
    with session:
        context = session.load_context()
        catalog, seed = context.catalog, context.params["seed"]
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


def _session(project: Path, env: str, conf: Path | None, pipeline: str, **parameters: Any) -> None:
    from kedro.framework.session import KedroSession

    from selfie.app.runner import ContinuingRunner

    source = str(conf) if conf else None
    session: Any = KedroSession.create(project, env=env, conf_source=source, runtime_params=parameters)
    with session:
        session.run(pipeline_names=[pipeline], runner=ContinuingRunner())


def _conf_with_labels(project: Path, folder: Path, env: str) -> Path:
    """The project's configuration, with the merged labels of a run's experiment for seed preferences."""
    conf = Path(shutil.copytree(project / "conf", folder / "conf", ignore=shutil.ignore_patterns("local")))
    path = conf / env / "catalog.yml"
    catalog = yaml.safe_load(path.read_text())
    catalog["seed_preferences"] = {"type": "selfie.datasets.PreferenceDataset", "filepath": LABELLED}
    path.write_text(yaml.safe_dump(catalog))
    return conf
