"""The study on the demo's task: how many answers follow the whole style guide, by method and seed."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from plotly.graph_objects import Figure, Scatter

from benchmarks.method_comparison.results import COLOURS
from benchmarks.runs_over_seeds import Record
from selfie.config.gold import GoldParameters
from selfie.diagnostics.style_guide import guide_of
from selfie.judges.gold import gold_scorer
from selfie.pipeline_registry import namespace_of
from selfie.reporting.tables import markdown_table

COLUMNS: tuple[str, ...] = (
    "method",
    "follows the guide, % [95%]",
    "by seed",
    "policy_0 → last, mean",
    "own content",
    "on topic",
)
COLUMNS += ("cut", "perplexity ratio", "label accuracy")
REFERENCES = ("seed_dpo", "spa", "full_dpo")
RESAMPLES = 9999
Table = dict[str, Any]


def collect(data: Path, env: str, records: Sequence[Record], methods: Sequence[str], gold: GoldParameters) -> Table:
    """For every method one entry a seed.

    Args:
        data: where the runs wrote.
        env: their environment.
        records: one a run, with its ``summary``.
        methods: in the order of the table.
        gold: the annotator with the style guide.

    Returns:
        ``seeds``, and under ``methods`` by name: ``shares`` of policy 0 to the last one, ``follows``, whether each
        answer of the last policy follows the whole guide, and figures of the last policy as in ``summary.json``.
    """
    seeds = sorted({record["seed"] for record in records})
    results: Table = {"seeds": seeds, "methods": {}}
    for method in methods:
        runs = {record["seed"]: record["summary"]["iterations"] for record in records if record["method"] == method}
        last = [runs[seed][-1] for seed in seeds]
        names = [
            f"{env}_{seed}_{method}/{namespace_of(policy['name'])}" for seed, policy in zip(seeds, last, strict=True)
        ]
        results["methods"][method] = {
            "shares": [[policy["style_guide"]["share"] for policy in runs[seed][1:]] for seed in seeds],
            "follows": [_follows(data / "07_model_output" / name / "model_outputs.json", gold) for name in names],
            "checks": [policy["style_guide"]["checks"] for policy in last],
            **{name: [policy[name] for policy in last] for name in FIGURES},
            "label_accuracy": [[policy["label_accuracy"] for policy in runs[seed][2:]] for seed in seeds],
        }
    return results


FIGURES = ("win_rate", "truncated", "on_topic", "perplexity_ratio", "repetition", "avg_length", "drifted")


def interval(answers: np.ndarray) -> tuple[float, float]:
    """The 95% interval of the mean by bootstrap over seeds and over prompts, which are the same for every seed.

    Args:
        answers: of each seed to each prompt, shape [seeds, prompts].
    """
    rng = np.random.default_rng(0)
    seeds, prompts = answers.shape
    means = [
        answers[np.ix_(rng.integers(seeds, size=seeds), rng.integers(prompts, size=prompts))].mean()
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def rows(results: Table) -> list[list[str]]:
    """The table's cells, a row a method."""
    cells = []
    for name, method in results["methods"].items():
        low, high = interval(np.array(method["follows"], dtype=float))
        last = [shares[-1] for shares in method["shares"]]
        labels = [mean(column) for column in zip(*method["label_accuracy"], strict=True)]
        cells.append(
            [
                name,
                f"{100 * mean(last):.1f} [{100 * low:.1f}, {100 * high:.1f}]",
                " ".join(f"{100 * share:.1f}" for share in last),
                " → ".join(f"{100 * mean(column):.1f}" for column in zip(*method["shares"], strict=True)),
                f"{100 * mean(checks['own_content'] for checks in method['checks']):.0f}",
                f"{100 * mean(checks['on_topic'] for checks in method['checks']):.0f}",
                f"{100 * mean(method['truncated']):.0f}",
                f"{mean(method['perplexity_ratio']):.2f}",
                " ".join(f"{value:.2f}" for value in labels) or "–",
            ]
        )
    return cells


def differences(results: Table) -> list[list[str]]:
    """A row a method: points of answers that follow the guide above each of :data:`REFERENCES`, with 95% interval.

    Methods of a seed share prompts and random seeds, so the answers are paired.
    """
    answers = {name: np.array(method["follows"], dtype=float) for name, method in results["methods"].items()}
    return [
        [name, *(_above(ours, answers.get(other)) if name != other else "–" for other in REFERENCES)]
        for name, ours in answers.items()
    ]


def _above(ours: np.ndarray, theirs: np.ndarray | None) -> str:
    if theirs is None:
        return "–"
    low, high = interval(ours - theirs)
    return f"{100 * (ours - theirs).mean():+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def markdown(results: Table) -> str:
    """The table for a page, and the paired differences."""
    header = ["points above", *REFERENCES]
    return f"{markdown_table(COLUMNS, rows(results))}\n{markdown_table(header, differences(results))}"


def figure(results: Table) -> Figure:
    """Shares by policy: a thin line a seed, a thick one for the mean."""
    drawn = Figure()
    for number, (name, method) in enumerate(results["methods"].items()):
        colour = COLOURS[number % len(COLOURS)]
        means = [mean(column) for column in zip(*method["shares"], strict=True)]
        for shares, width in ((means, 4), *((seed, 1) for seed in method["shares"])):
            drawn.add_trace(
                Scatter(
                    x=[f"policy_{k}" for k in range(len(shares))],
                    y=[100 * share for share in shares],
                    name=name,
                    legendgroup=name,
                    showlegend=width > 1,
                    mode="lines+markers",
                    line={"color": colour, "width": width},
                    marker={"size": 4 + width},
                )
            )
    title = f"Answers that follow the style guide, % ({len(results['seeds'])} seeds and their mean)"
    return drawn.update_layout(
        template="plotly_white", width=820, height=440, title=title, yaxis={"rangemode": "tozero"}
    )


def _follows(file: Path, gold: GoldParameters) -> list[int]:
    guide = guide_of(gold_scorer(gold))
    assert guide is not None, "the study's annotator has a style guide"
    return [int(all(guide(row["instruction"], row["output"]).values())) for row in json.loads(file.read_text())]
