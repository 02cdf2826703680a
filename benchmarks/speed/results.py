"""From the measurements of a machine to ratios of medians: JSON, a page, a table in the terminal."""

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selfie.reporting.tables import markdown_table

Runs = dict[str, list[dict[str, Any]]]
"""Measurements of each contestant, as JSON keeps them; a rival with a choice of batch has one a batch: name@batch."""

TARGETS = {
    "generation_vs_hf": 2.2,
    "generation_vs_vllm": 0.95,
    "judging_vs_padded_bs1": 2.0,
    "judging_vs_best_fixed_batch": 1.25,
    "judging_mfu": None,
    "training_vs_trl": 1.7,
    "training_vs_trl_precompute": 1.3,
    "training_mfu": None,
    "iteration_vs_stock": 1.5,
    "iteration_vs_stock_hf": 2.0,
    "peak_memory_vs_trl": 0.6,
    "generation_2_workers_vs_1": 1.7,
    "judging_2_workers_vs_1": 1.7,
    "plan_time_error": 1.5,
    "plan_memory_error": 0.2,
}
"""What each key should reach: at least, or, for those in :data:`AT_MOST`, at most."""
PLAN = ("plan_time_error", "plan_memory_error")
AT_MOST = ("peak_memory_vs_trl", *PLAN)

SPEEDS = {
    "generation_vs_hf": ("generation/ours", "generation/hf"),
    "generation_vs_vllm": ("generation/ours", "generation/vllm"),
    "judging_vs_padded_bs1": ("judging/ours", "judging/padded@1"),
    "judging_vs_best_fixed_batch": ("judging/ours", "judging/padded"),
    "training_vs_trl": ("training/ours", "training/trl"),
    "training_vs_trl_precompute": ("training/ours", "training/trl_precompute"),
    "iteration_vs_stock": ("iteration/ours", "iteration/stock_vllm"),
    "iteration_vs_stock_hf": ("iteration/ours", "iteration/stock_hf"),
    "generation_2_workers_vs_1": ("generation_workers/ours_2", "generation_workers/ours_1"),
    "judging_2_workers_vs_1": ("judging_workers/ours_2", "judging_workers/ours_1"),
}
MFU = {"judging_mfu": ("judging/ours", 2), "training_mfu": ("training/ours", 4)}
"""Forward passes that are needed: two models'; the policy's with its backward pass (three), the reference's."""


def best(runs: Runs, name: str) -> list[dict[str, Any]]:
    """The measurements of ``name``, at its fastest batch if it has several."""
    choices = [measured for key, measured in runs.items() if measured and name in (key, key.split("@")[0])]
    return max(choices, key=speed) if choices else []


def speed(measured: list[dict[str, Any]]) -> float:
    """Useful tokens a second, the median."""
    return statistics.median(run["tokens"] / run["seconds"] for run in measured)


def ratios(runs: Runs, forward_flops: dict[str, float]) -> dict[str, float | None]:
    """The keys of :data:`TARGETS`; None where something was not measured. ``forward_flops``: each part's."""
    values: dict[str, float | None] = dict.fromkeys(TARGETS)
    for key, (ours, rival) in SPEEDS.items():
        values[key] = _both(runs, ours, rival, lambda a, b: speed(a) / speed(b))
    values["peak_memory_vs_trl"] = _both(runs, "training/ours", "training/trl", lambda a, b: _memory(a) / _memory(b))
    for key, (ours, passes) in MFU.items():
        part = ours.split("/")[0]
        values[key] = _both(runs, ours, f"limit/{part}", _utilisation(passes * forward_flops[part]))
    return values


def plan_errors(file: Path) -> dict[str, float | None]:
    """The largest errors of the plan that ``make bench-plan`` has found on this machine."""
    if not file.exists():
        return dict.fromkeys(PLAN)
    runs = json.loads(file.read_text()).values()
    return {key: max(run[key] for run in runs) for key in PLAN}


def _utilisation(flops: float) -> Callable[[list, list], float]:
    def of(stage: list[dict[str, Any]], limit: list[dict[str, Any]]) -> float:
        seconds = statistics.median(run["seconds"] for run in stage)
        return flops / seconds / statistics.median(run["details"]["flops_per_second"] for run in limit)

    return of


def _both(runs: Runs, ours: str, rival: str, of: Callable[[list, list], float]) -> float | None:
    a, b = best(runs, ours), best(runs, rival)
    return round(of(a, b), 3) if a and b else None


def _memory(measured: list[dict[str, Any]]) -> float:
    return statistics.median(run["peak_memory"] for run in measured)


def contestants(runs: Runs) -> list[list[str]]:
    """A line each: name, tokens/s with its spread, seconds, peak memory, rounds."""
    lines = []
    for name, measured in runs.items():
        if not measured or name.startswith(("limit", "workload")):
            continue
        speeds = [run["tokens"] / run["seconds"] for run in measured]
        seconds = statistics.median(run["seconds"] for run in measured)
        lines.append(
            [
                name,
                f"{speed(measured):.1f}",
                f"{min(speeds):.1f}–{max(speeds):.1f}",
                f"{seconds:.1f}",
                f"{_memory(measured) / 2**30:.2f}",
                str(len(measured)),
            ]
        )
    return lines


HEADER = ["contestant", "tokens/s", "spread", "seconds", "peak GiB", "rounds"]


def targets(document: dict[str, Any]) -> list[list[str]]:
    """A line each: key, value, what it should reach, or why it is missing."""
    lines = []
    for key, target in TARGETS.items():
        value = document[key]
        sign = "≤" if key in AT_MOST else "≥"
        wanted = f"{sign} {target}" if target else ""
        lines.append([key, "–" if value is None else f"{value:.2f}", wanted, document["missing"].get(key, "")])
    return lines


def page(document: dict[str, Any]) -> str:
    """Markdown: what was measured on what, the ratios, the contestants."""
    text = [
        f"# Benchmark: {document['machine']['name']}",
        "",
        "Written by `make bench` (`python -m benchmarks.speed`); do not edit. What it measures: "
        "[performance.md](../../docs/performance.md).",
        "",
        *(f"- {name}: {value}" for name, value in {**document["machine"], **document["setting"]}.items()),
        "",
    ]
    text.append(markdown_table(["ratio of medians", "value", "to reach", "missing because"], targets(document)))
    text.append(markdown_table(HEADER, contestants(document["measurements"])))
    return "\n".join(text)
