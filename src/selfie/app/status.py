"""``kedro status``: how far each stage of each iteration is."""

from collections import Counter
from dataclasses import replace

from kedro.framework.project import pipelines
from kedro.io import CatalogProtocol
from kedro.pipeline.node import Node
from rich.table import Table

from selfie.app.freshness import State, examine
from selfie.data.validation import PAIRS
from selfie.datasets.records import RecordDataset

COLOURS = {"done": "green", "stale": "yellow", "partial": "cyan", "missing": "red"}


def status_table(catalog: CatalogProtocol) -> Table:
    """One row per namespace and stage: done, stale (why), partial (how far) or missing.

    A step counts as stale, too, if it will get other inputs because a step before it has to run. Unfinished work from
    other parameters is listed with its size.
    """
    whole = pipelines["__default__"]
    _set_aside(catalog)
    stages: dict[tuple[str, str], dict[Node, State]] = {}
    due: set[str] = set()  # datasets that will be made anew
    for node in whole.nodes:
        state = examine(node, catalog)
        waits = sorted(due & set(node.inputs))
        if state.status == "done" and waits:
            state = replace(state, status="stale", reasons=tuple(f"{name} will be made anew" for name in waits))
        if state.status != "done":
            due |= set(node.outputs)
        stages.setdefault((node.namespace or "", stage_of(node)), {})[node] = state
    table = Table("namespace", "stage", "state", "why")
    namespaces = list(dict.fromkeys(namespace for namespace, _ in stages))
    for (namespace, stage), states in sorted(stages.items(), key=lambda item: namespaces.index(item[0][0])):
        word, why = _together(states)
        if stage == "judging" and not why:
            why = _agreement(namespace, catalog)
        notes = [why] if why else []
        notes += [f"superseded, kept: {work}" for state in states.values() for work in state.superseded]
        table.add_row(namespace or "–", stage, f"[{COLOURS[word.split()[0]]}]{word}[/]", "; ".join(notes))
    return table


def _agreement(namespace: str, catalog: CatalogProtocol) -> str:
    """How many of the labels rounding leaves as float32 gives them."""
    dataset = catalog.get(f"{namespace}.precision")
    if dataset is None or not dataset.exists():
        return ""
    precision = dataset.load()
    return f"judged in {precision['scoring']}: {precision['label_agreement']:.1%} of the labels as in float32"


def _set_aside(catalog: CatalogProtocol) -> None:
    """The user's data as the last run's validation left it: prompts that are merely long stay (sampling skips them)."""
    quarantine = catalog.get("quarantine")
    listed = quarantine.load() if quarantine is not None and quarantine.exists() else []
    rows = [row for row in listed if row["dataset"] in PAIRS or "max_length" not in row["problem"]]
    for name in {row["dataset"] for row in rows}:
        dataset = catalog.get(name)
        if isinstance(dataset, RecordDataset):
            dataset.set_aside(row["row"] for row in rows if row["dataset"] == name)


def stage_of(node: Node) -> str:
    """The stage's name; seeding's tokenisation belongs to its training."""
    return "training" if "seeding" in node.tags else next(iter(node.tags), "other")


def _together(states: dict[Node, State]) -> tuple[str, str]:
    counts = Counter(state.status for state in states.values())
    partial = [state.partial for state in states.values() if state.partial]
    reasons = dict.fromkeys(state.why() for state in states.values() if state.status == "stale")
    if partial:
        return f"partial {', '.join(partial)}", "; ".join(reasons)
    if counts["stale"]:
        return "stale", "; ".join(reasons)
    if counts["missing"] and counts["done"]:
        return f"partial {counts['done']}/{len(states)} steps", ""
    return ("missing" if counts["missing"] else "done"), ""
