"""AlpacaEval's leaderboard: one row a model, as CSV for its tools and as Markdown for people.

Model names come from external files, so they are kept from acting as a spreadsheet's formulas or as markup.
"""

import re
from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

import pandas as pd

from selfie.evaluation.alpaca_files import DRAW, Record
from selfie.evaluation.win_rate import length_controlled_win_rate, win_rate

COLUMNS = {
    "win_rate": "win rate, %",
    "standard_error": "standard error",
    "n_wins": "wins",
    "n_wins_base": "losses",
    "n_draws": "draws",
    "n_total": "judged",
    "discrete_win_rate": "discrete win rate, %",
    "avg_length": "characters",
    "length_controlled_winrate_estimate": "length-controlled (estimate), %",
}
"""AlpacaEval's names, and what a person reads. The length-controlled figure is not AlpacaEval's, nor is its name."""


def leaderboard_row(annotations: Sequence[Record]) -> dict[str, Any]:
    """A model's figures as AlpacaEval 0.6.6 defines them (`metrics/winrate.py`).

    Answers without a preference count in the mean length alone. The standard error is that of the mean, in points.
    """
    judged = [record for record in annotations if record["preference"] is not None]
    preferences = [record["preference"] for record in judged]
    lengths = [[len(record[side]) for record in judged] for side in ("output_2", "output_1")]
    wins, losses = sum(p > DRAW for p in preferences), sum(p < DRAW for p in preferences)
    draws = len(judged) - wins - losses
    return {
        "win_rate": win_rate(preferences),
        "standard_error": 100 * stdev(preferences) / len(judged) ** 0.5 if len(judged) > 1 else None,
        "n_wins": wins,
        "n_wins_base": losses,
        "n_draws": draws,
        "n_total": len(judged),
        "discrete_win_rate": 100 * (wins + draws / 2) / len(judged),
        "avg_length": int(mean(len(record["output_2"]) for record in annotations)),
        "length_controlled_winrate_estimate": length_controlled_win_rate(preferences, *lengths),
    }


def leaderboard_of(annotations: Sequence[Sequence[Record]]) -> pd.DataFrame:
    """One row a model that was judged, named by its ``generator_2``; see :func:`merge_leaderboards` for the order."""
    rows = {
        records[0]["generator_2"]: leaderboard_row(records)
        for records in annotations
        if any(record["preference"] is not None for record in records)
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(COLUMNS))


def merge_leaderboards(before: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """The best first; a model that is in both has its new row. Names are made harmless."""
    new = new.rename(index=harmless_cell)
    kept = before[~before.index.isin(new.index)]
    merged = pd.concat([frame for frame in (kept, new) if len(frame)]) if len(kept) or len(new) else new
    return merged.rename_axis("model").sort_values(["win_rate", "model"], ascending=[False, True]).rename_axis(None)


def harmless_cell(text: str) -> str:
    """What spreadsheets do not take for a formula, on one line (OWASP, CSV injection)."""
    line = " ".join(text.split()) or "unnamed"
    return f"'{line}" if line.startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠")) else line


def leaderboard_markdown(leaderboard: pd.DataFrame) -> str:
    """A table; names are text, never HTML, links or further columns."""
    columns = {name: title for name, title in COLUMNS.items() if name in leaderboard}
    lines = ["| model | " + " | ".join(columns.values()) + " |", "|---" + "|---:" * len(columns) + "|"]
    for model, row in leaderboard.iterrows():
        cells = ("–" if pd.isna(row[name]) else f"{row[name]:.1f}".removesuffix(".0") for name in columns)
        lines.append(f"| {markdown_text(str(model))} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def markdown_text(text: str) -> str:
    """One line of text in Markdown, with everything that could become HTML or markup escaped."""
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~!])", r"\\\1", line)
