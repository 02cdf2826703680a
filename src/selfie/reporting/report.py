"""The run as a Markdown page, and as a table in the terminal."""

from typing import Any

from rich.table import Table

from selfie.evaluation.annotate import Record

SAMPLES = 6
COLUMNS = {
    "policy": lambda row: row["name"],
    "win rate % [95%]": lambda row: _interval(row["win_rate"], row["win_rate_ci"]),
    "length-controlled %": lambda row: _number(row["length_controlled_win_rate"], 1),
    "characters": lambda row: _number(row["avg_length"], 0),
    "label accuracy": lambda row: _number(row["label_accuracy"], 3),
    "flagged wrong": lambda row: _number(row["noise_precision"], 3),
    "(base error)": lambda row: _number(row["noise_base_error"], 3),
    "pairs": lambda row: _number(row["n_pairs"], 0),
    "minutes": lambda row: _number(sum(s or 0 for s in row["seconds"].values()) / 60, 1),
}


def terminal_table(summary: dict[str, Any]) -> Table:
    """The summary for ``rich.print``."""
    table = Table(title=f"{summary['experiment']}: {summary['model']}")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "policy" else "right")
    for row in summary["iterations"]:
        table.add_row(*(cell(row) for cell in COLUMNS.values()))
    return table


def markdown_report(summary: dict[str, Any], annotations: list[Record]) -> str:
    """The summary's table, what its columns mean, and some answers of the last policy side by side."""
    header = " | ".join(COLUMNS)
    lines = [
        f"# {summary['experiment']}",
        "",
        f"Initial model: `{summary['model']}` · {_number(summary['wall_seconds'] / 60, 1)} minutes · "
        f"peak memory {_number(summary['peak_rss_gib'], 2)} GiB",
        "",
        f"| {header} |",
        "|---" * len(COLUMNS) + "|",
        *(f"| {' | '.join(cell(row) for cell in COLUMNS.values())} |" for row in summary["iterations"]),
        "",
        "Win rates are against the initial model's answers, in percent, with a 95% bootstrap interval over the "
        "evaluation prompts. *Flagged wrong* is the share of pairs that the noise detector flagged whose label "
        "contradicts the gold annotator; *base error* is that share among all pairs it was asked about.",
    ]
    if annotations:
        lines += ["", "## Answers of the last policy beside the initial model's", ""]
        step = max(1, len(annotations) // SAMPLES)
        for record in annotations[::step][:SAMPLES]:
            verdict = {1.0: "initial model", 2.0: "last policy"}.get(record["preference"], "draw")
            lines += [
                f"**{_quote(record['instruction'])}** (preferred: {verdict})",
                "",
                f"> *initial:* {_quote(record['output_1'])}",
                ">",
                f"> *policy:* {_quote(record['output_2'])}",
                "",
            ]
    return "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    """Answers are untrusted text: one line, no HTML."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _interval(value: float | None, interval: list[float] | None) -> str:
    if value is None or interval is None:
        return "–"
    return f"{value:.1f} [{interval[0]:.1f}, {interval[1]:.1f}]"
