"""The study's table, plots and page."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

from plotly.graph_objects import Bar, Figure, Scatter
from plotly.subplots import make_subplots
from rich.table import Table

from selfie.evaluation.win_rate import mean_interval
from selfie.reporting.tables import markdown_table

COLUMNS: tuple[str, ...] = (
    "method",
    "win rate % [95%]",
    "worst seed",
    "gold reward",
    "label accuracy by iteration",
    "flagged wrong",
)
COLUMNS += ("(base error)", "characters", "seeds below seed_dpo")
RESAMPLES = 9999
REFERENCES = ("seed_dpo", "spa", "full_dpo")


def collect(records: Sequence[dict[str, Any]], methods: Sequence[str]) -> dict[str, Any]:
    """``results.json``: for every method one entry a seed.

    Win rates in percent over the initial model; the gold reward of the final policy's answers; label accuracy by
    iteration; precision of the flagged pairs and the error rate of the pairs they were chosen from, means over the
    iterations; length in characters.
    """
    seeds = sorted({record["seed"] for record in records})
    results: dict[str, Any] = {"methods": {}, "seeds": seeds}
    for method in methods:
        runs = {record["seed"]: record["summary"]["iterations"] for record in records if record["method"] == method}
        final = [runs[seed][0 if method == "initial" else -1] for seed in seeds]
        loops = [[row for row in runs[seed] if row["label_accuracy"] is not None] for seed in seeds]
        results["methods"][method] = {
            "win_rate": [row["win_rate"] for row in final],
            "gold_reward": [row["gold_score"] for row in final],
            "label_accuracy": [[row["label_accuracy"] for row in loop] for loop in loops],
            "noise_precision": [_mean(row["noise_precision"] for row in loop) for loop in loops],
            "noise_base_error": [_mean(row["noise_base_error"] for row in loop) for loop in loops],
            "avg_length": [row["avg_length"] for row in final],
            "win_rate_by_iteration": [[row["win_rate"] for row in runs[seed][1:]] for seed in seeds],
        }
    return results


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95% interval of the mean over seeds, by percentile bootstrap: it cannot leave the range of the values.

    Seeds are drawn, with their prompts: how win rates differ between seeds has both parts in it.
    """
    return mean_interval(values, RESAMPLES, seed=0)


def rows(results: dict[str, Any]) -> list[list[str]]:
    """The table's cells, a row a method."""
    seeded = results["methods"].get("seed_dpo", {}).get("win_rate")
    cells = []
    for name, method in results["methods"].items():
        wins = method["win_rate"]
        low, high = interval(wins)
        accuracy = [mean(column) for column in zip(*method["label_accuracy"], strict=True)]
        below = sum(a < b for a, b in zip(wins, seeded, strict=True)) if seeded and name != "initial" else None
        cells.append(
            [
                name,
                f"{mean(wins):.1f} [{low:.1f}, {high:.1f}]",
                f"{min(wins):.1f}",
                f"{mean(method['gold_reward']):.2f}",
                " ".join(f"{value:.3f}" for value in accuracy) or "–",
                _number(_mean(method["noise_precision"])),
                _number(_mean(method["noise_base_error"]) if _mean(method["noise_precision"]) is not None else None),
                f"{mean(method['avg_length']):.0f}",
                "–" if below is None else str(below),
            ]
        )
    return cells


def table(results: dict[str, Any]) -> Table:
    """For the terminal."""
    drawn = Table(title=f"The synthetic task, {len(results['seeds'])} seeds")
    for column in COLUMNS:
        drawn.add_column(column, justify="left" if column == "method" else "right")
    for cells in rows(results):
        drawn.add_row(*cells)
    return drawn


def differences(results: dict[str, Any]) -> list[list[str]]:
    """A row a method: how much its win rate is above each of :data:`REFERENCES`', points with 95% interval over seeds.

    Methods of a seed share language, initial model and prompts, so the seeds' differences are paired.
    """
    wins = {name: method["win_rate"] for name, method in results["methods"].items()}
    return [
        [name, *(_above(values, wins.get(reference)) if name != reference else "–" for reference in REFERENCES)]
        for name, values in wins.items()
        if name != "initial"
    ]


def _above(values: Sequence[float], reference: Sequence[float] | None) -> str:
    if reference is None:
        return "–"
    above = [a - b for a, b in zip(values, reference, strict=True)]
    low, high = interval(above)
    return f"{mean(above):+.1f} [{low:+.1f}, {high:+.1f}]"


def markdown(results: dict[str, Any]) -> str:
    """The same for a page, and the paired differences."""
    header = ["points of win rate above", *REFERENCES]
    return f"{markdown_table(COLUMNS, rows(results))}\n{markdown_table(header, differences(results))}"


def figure(results: dict[str, Any]) -> Figure:
    """Final win rates with their intervals and every seed; win rate and label accuracy by iteration."""
    titles = ("Final win rate over the initial model (%)", "Win rate by policy (%)", "Label accuracy by iteration")
    drawn = make_subplots(rows=1, cols=3, subplot_titles=titles, column_widths=[0.4, 0.3, 0.3])
    names = list(results["methods"])
    bounds = [interval(method["win_rate"]) for method in results["methods"].values()]
    means = [mean(method["win_rate"]) for method in results["methods"].values()]
    error = {
        "type": "data",
        "array": [high - m for (_, high), m in zip(bounds, means, strict=True)],
        "arrayminus": [m - low for (low, _), m in zip(bounds, means, strict=True)],
    }
    drawn.add_trace(Bar(x=names, y=means, error_y=error, marker={"color": "#93c5fd"}, showlegend=False), row=1, col=1)
    for name, method in results["methods"].items():
        dots = Scatter(x=[name] * len(method["win_rate"]), y=method["win_rate"], mode="markers", showlegend=False)
        drawn.add_trace(dots.update(marker={"color": "#1e3a8a", "size": 4}), row=1, col=1)
        for column, key, first in ((2, "win_rate_by_iteration", 0), (3, "label_accuracy", 1)):
            curves = list(zip(*method[key], strict=True))
            if len(curves) > 1:
                line = Scatter(
                    x=[first + k for k in range(len(curves))],
                    y=[mean(curve) for curve in curves],
                    name=name,
                    legendgroup=name,
                    showlegend=column == 2,  # noqa: PLR2004
                    line={"color": COLOURS[names.index(name) % len(COLOURS)]},
                )
                drawn.add_trace(line, row=1, col=column)
    for column in (2, 3):
        drawn.update_xaxes(title="iteration", dtick=1, row=1, col=column)
    return drawn.update_layout(
        template="plotly_white", height=520, title="Methods on the synthetic task, means over seeds"
    )


COLOURS = ("#2563eb", "#ea580c", "#16a34a", "#9333ea", "#dc2626", "#0891b2", "#ca8a04", "#db2777", "#4b5563", "#65a30d")


def _mean(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
