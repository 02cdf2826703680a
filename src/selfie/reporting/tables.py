"""The summary's rows and columns, as the terminal, the report and its Markdown twin show them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

SECONDS_PER_MINUTE = 60
TABLE_WIDTH = 120


def minutes(row: dict[str, Any]) -> str:
    """All stages of a policy together."""
    return number(sum(seconds or 0 for seconds in row["seconds"].values()) / SECONDS_PER_MINUTE, 1)


def number(value: float | None, digits: int) -> str:
    """A dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


Columns = dict[str, Callable[[dict[str, Any]], str]]
"""A title → what stands there of a policy."""
COLUMNS: Columns = {
    "win rate % [95%]": lambda row: _with_interval(row["win_rate"], row["win_rate_ci"]),
    "length-controlled %": lambda row: number(row["length_controlled_win_rate"], 1),
    "characters": lambda row: number(row["avg_length"], 0),
    "label accuracy": lambda row: number(row["label_accuracy"], 3),
    "flagged wrong": lambda row: number(row["noise_precision"], 3),
    "(base error)": lambda row: number(row["noise_base_error"], 3),
    "pairs": lambda row: number(row["n_pairs"], 0),
    "minutes": minutes,
}


def columns_for(rows: list[dict[str, Any]]) -> Columns:
    """The style guide stands first where there is one; policies that drifted are named where there are any."""
    columns: Columns = {"policy": lambda row: row["name"]}
    if any(row["style_guide"] for row in rows):
        columns["follows the guide % [95%]"] = _guide_share
    columns |= COLUMNS
    if any(row["drifted"] for row in rows):
        columns["drifted"] = drift_reasons
    return columns


def drift_reasons(row: dict[str, Any]) -> str:
    """What the policy loses, with its figures; a dash where it has not drifted."""
    reasons = row["drift_reasons"] or {}
    return ", ".join(f"{readable(name)} {value:.2f}" for name, value in reasons.items()) or "–"


def readable(name: str) -> str:
    """A check's or a figure's name in words."""
    return name.replace("_", " ")


@dataclass(frozen=True)
class Metric:
    """One line of the report's table: a key of the summary's rows, and how its number is written."""

    title: str
    key: str
    digits: int


RESULTS = (
    Metric("win rate, %", "win_rate", 1),
    Metric("… since the policy before", "win_rate_change", 1),
    Metric("… p (paired permutations)", "win_rate_change_p", 3),
    Metric("length-controlled, %", "length_controlled_win_rate", 1),
    Metric("characters an answer", "avg_length", 0),
    Metric("distinct words", "distinct_1", 3),
    Metric("distinct word pairs", "distinct_2", 3),
    Metric("repeated 4-grams", "repetition", 3),
    Metric("on topic", "on_topic", 3),
    Metric("perplexity over initial's", "perplexity_ratio", 2),
    Metric("cut by the token limit", "truncated", 3),
)
LABELS = (
    Metric("pairs", "n_pairs", 0),
    Metric("label accuracy", "label_accuracy", 3),
    Metric("held-out accuracy", "heldout_accuracy", 3),
    Metric("calibration error", "ece", 3),
    Metric("… by chance", "ece_by_chance", 3),
    Metric("flagged wrong", "noise_precision", 3),
    Metric("(base error)", "noise_base_error", 3),
    Metric("wrong ones flagged", "noise_recall", 3),
    Metric("tokens, chosen", "avg_chosen_tokens", 1),
    Metric("tokens, rejected", "avg_rejected_tokens", 1),
    Metric("longer chosen", "longer_chosen", 3),
    Metric("length–margin correlation", "length_margin_correlation", 2),
    Metric("labels as in float32", "label_agreement", 3),
    Metric("… rounding, nats", "rounding_noise", 5),
    Metric("… spread of margins / β, nats", "reward_spread", 2),
    Metric("KL sampled from trained, nats a token", "sampling_kl", 5),
    Metric("flipped by the next policy", "flip_rate", 3),
    Metric("KL from initial, nats", "kl_from_initial", 2),
)
CAPABILITIES = (
    Metric("questions answered, %", "questions_exact_match", 1),
    Metric("… since the initial model, points", "questions_exact_match_change", 1),
    Metric("perplexity of neutral text", "neutral_text_word_perplexity", 2),
    Metric("… over the initial model's", "neutral_text_word_perplexity_ratio", 3),
    Metric("IFEval, prompts, %", "ifeval_prompt_level_strict_acc", 1),
    Metric("… since the initial model, points", "ifeval_prompt_level_strict_acc_change", 1),
    Metric("IFEval, instructions, %", "ifeval_inst_level_strict_acc", 1),
    Metric("… since the initial model, points", "ifeval_inst_level_strict_acc_change", 1),
)
Line = tuple[str, list[tuple[str, str]]]
"""A title, then (value, interval) of each policy."""


def terminal_table(summary: dict[str, Any]) -> Table:
    """The summary for ``rich.print``."""
    table = Table(title=f"{summary['experiment']}: {summary['model']}")
    columns = columns_for(summary["iterations"])
    for column in columns:
        table.add_column(column, justify="left" if column in ("policy", "drifted") else "right")
    for row in summary["iterations"]:
        table.add_row(*(cell(row) for cell in columns.values()))
    return table


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table for a page, ending with a line break."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def print_table(table: Table) -> None:
    """To the terminal, or wide enough into a log, where there is no terminal to ask."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=TABLE_WIDTH)
    console.print(table)


def lines(metrics: tuple[Metric, ...], rows: list[dict[str, Any]]) -> list[Line]:
    """The metrics that any policy has, a column a policy."""
    return [
        (
            metric.title,
            [
                (number(row.get(metric.key), metric.digits), _bounds(row.get(f"{metric.key}_ci"), metric.digits))
                for row in rows
            ],
        )
        for metric in metrics
        if any(row.get(metric.key) is not None for row in rows)
    ]


def guide_lines(rows: list[dict[str, Any]]) -> list[Line]:
    """The share of answers that follow the whole guide and its changes, on all prompts and on each part of them; then
    each check's share; in percent or points.
    """
    guides = [row["style_guide"] or {} for row in rows]
    checks = {name: None for guide in guides for name in guide.get("checks", {})}
    parts = {name: None for guide in guides for name in guide.get("parts", {})}
    each = [(readable(name), [_percent(guide.get("checks", {}).get(name)) for guide in guides]) for name in checks]
    whole = _guide_changes("follows the whole guide, %", guides) if checks else []
    for part in parts:
        of_part = [guide.get("parts", {}).get(part, {}) for guide in guides]
        whole += _guide_changes(f"follows the guide, {readable(part)}, %", of_part)
    return [*whole, *each]


def _guide_changes(title: str, guides: list[dict[str, Any]]) -> list[Line]:
    """A share, and how much more it is than other policies'."""
    changes = [
        (title, [_percent(guide.get(key), guide.get(f"{key}_ci")) for guide in guides])
        for title, key in (
            ("… more than the initial model", "change_from_initial"),
            ("… more than the seed policy", "change_from_seeding"),
        )
        if any(key in guide for guide in guides)
    ]
    return [(title, [_percent(guide.get("share"), guide.get("ci")) for guide in guides]), *changes]


def _percent(share: float | None, interval: list[float] | None = None) -> tuple[str, str]:
    percent = None if share is None else 100 * share
    return number(percent, 1), _bounds(interval and [100 * bound for bound in interval], 1)


def _guide_share(row: dict[str, Any]) -> str:
    guide = row["style_guide"]
    return _with_interval(100 * guide["share"], [100 * bound for bound in guide["ci"]]) if guide else "–"


def _bounds(interval: list[float] | None, digits: int) -> str:
    return "" if interval is None else f"{interval[0]:.{digits}f}, {interval[1]:.{digits}f}"


def _with_interval(value: float | None, interval: list[float] | None) -> str:
    return number(value, 1) if interval is None else f"{number(value, 1)} [{_bounds(interval, 1)}]"
