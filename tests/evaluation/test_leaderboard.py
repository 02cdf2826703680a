"""AlpacaEval's leaderboard, against the published one, and against names that would be formulas or markup."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from selfie.datasets import LeaderboardDataset
from selfie.evaluation.leaderboard import COLUMNS, harmless_cell, leaderboard_markdown, leaderboard_of, leaderboard_row

SHARED = Path(__file__).parents[3] / "shared/data/alpaca_eval"


def annotations(name: str, *preferences: float | None) -> list[dict[str, Any]]:
    return [
        {"generator_2": name, "output_1": "base", "output_2": "x" * (n + 1), "preference": preference}
        for n, preference in enumerate(preferences)
    ]


def test_a_row_by_hand():
    """Wins 2.0 and 1.75, a draw, a loss, a failure: 56.25%; standard deviation of (1, ¾, ½, 0) is 0.427."""
    row = leaderboard_row(annotations("m", 2.0, 1.75, 1.5, 1.0, None))
    assert (row["win_rate"], row["discrete_win_rate"]) == (56.25, 62.5)
    assert (row["n_wins"], row["n_wins_base"], row["n_draws"], row["n_total"]) == (2, 1, 1, 4)
    assert row["standard_error"] == pytest.approx(42.696 / 2, abs=0.01)
    assert row["avg_length"] == 3  # of all five


def test_a_single_answer_has_no_standard_error():
    row = leaderboard_row(annotations("m", 2.0))
    assert (row["win_rate"], row["standard_error"], row["length_controlled_winrate_estimate"]) == (100.0, None, 100.0)


def test_all_draws():
    row = leaderboard_row(annotations("m", 1.5, 1.5, 1.5))
    assert (row["win_rate"], row["discrete_win_rate"], row["n_draws"], row["standard_error"]) == (50.0, 50.0, 3, 0.0)


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/data/alpaca_eval is not here")
def test_the_published_leaderboard():
    published = pd.read_csv(SHARED / "leaderboard_published.csv", index_col=0)
    reference = json.loads(gzip.decompress((SHARED / "reference_outputs.json.gz").read_bytes()))
    for model, figures in published.iterrows():
        rows = json.loads(gzip.decompress((SHARED / f"annotations/{model}.json.gz").read_bytes()))
        rows = [{"output_1": reference[row["index"]]["output"], **row} for row in rows]
        (found,) = leaderboard_of([rows]).to_dict(orient="records")
        names = set(COLUMNS) & set(published.columns)
        if len(rows) < len(reference):
            names.discard("avg_length")  # the published one counts answers that are not in this file
        for name in names:
            assert found[name] == pytest.approx(figures[name], abs=1e-6), (model, name)


def test_rows_are_merged_and_sorted(tmp_path: Path):
    board = LeaderboardDataset(str(tmp_path / "leaderboard.csv"), "loop")
    board.save(leaderboard_of([annotations("b", 1.0, 2.0), annotations("a", 1.0)]))
    board.save(leaderboard_of([annotations("c", 2.0), annotations("a", 2.0, 1.0), annotations("unjudged", None)]))
    assert list(board.load().index) == ["c", "a", "b"]
    assert board.load().loc["a", "win_rate"] == 50
    assert (tmp_path / "leaderboard.md").read_text().count("\n") == 5


def test_each_author_has_a_record_of_its_own(tmp_path: Path):
    """One author's provenance stays when another adds rows or drops its own."""
    loop, external = (LeaderboardDataset(str(tmp_path / "leaderboard.csv"), name) for name in ("loop", "external"))
    loop.provenance, external.provenance = {"inputs": "loop's"}, {"inputs": "theirs"}
    assert loop.made_from() is None
    loop.save(leaderboard_of([annotations("policy", 2.0, 1.0, 1.0)]))
    assert external.made_from() is None
    external.save(leaderboard_of([annotations("external", 2.0)]))
    assert (loop.made_from(), external.made_from()) == (loop.provenance, external.provenance)
    before = (tmp_path / "leaderboard.csv").read_bytes()
    loop.forget()
    assert (loop.made_from(), external.made_from()) == (None, external.provenance)
    assert (tmp_path / "leaderboard.csv").read_bytes() == before
    assert list(external.load().index) == ["external", "policy"]


def test_a_leaderboard_of_nobody(tmp_path: Path):
    board = LeaderboardDataset(str(tmp_path / "leaderboard.csv"), "loop")
    board.save(leaderboard_of([[], annotations("m", None)]))
    assert len(board.load()) == 0
    board.save(leaderboard_of([annotations("m", 2.0)]))
    assert list(board.load().index) == ["m"]


def test_alpaca_evals_own_reading(tmp_path: Path):
    """`alpaca_eval` reads with index_col=0 and sorts by win_rate; its columns have its names."""
    board = LeaderboardDataset(str(tmp_path / "leaderboard.csv"), "loop")
    board.save(leaderboard_of([annotations("m", 2.0, 1.0), annotations("n", 1.0)]))
    table = pd.read_csv(tmp_path / "leaderboard.csv", index_col=0)
    assert list(table.sort_values("win_rate").index) == ["n", "m"]
    assert {"win_rate", "standard_error", "n_total", "avg_length"} <= set(table.columns)
    assert "length_controlled_winrate" not in table.columns  # AlpacaEval's own fit, which this is not


NASTY = [
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    " =HYPERLINK(1)",
    "＝1",
    "<script>alert(1)</script>",
    "![x](http://example.com/x.png)",
    "[x](javascript:alert(1))",
    "a|b|c",
    "a\n| b | 100 |",
    "`code` *b* _i_ ~~s~~ &amp; \\",
    "<img src=x onerror=alert(1)>",
    "",
]


@pytest.mark.parametrize("name", NASTY)
def test_names_are_text(tmp_path: Path, name: str):
    """No spreadsheet formula in the CSV; in the rendered Markdown one row of cells, nothing but text in them."""
    board = LeaderboardDataset(str(tmp_path / "leaderboard.csv"), "loop")
    for _ in range(2):
        board.save(leaderboard_of([annotations(name, 2.0)]))
    header, row = csv.reader((tmp_path / "leaderboard.csv").open(newline=""))
    assert row[0][:1] not in set("=+-@＝\t\r")
    assert len(row) == len(header)
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render((tmp_path / "leaderboard.md").read_text())
    assert html.count("<tr>") == 2
    assert html.count("<td") == len(COLUMNS) + 1
    for markup in ("<script", "<img", "<a ", "<em>", "<strong>", "<code>", "<s>"):
        assert markup not in html


@given(st.text())
def test_no_cell_begins_a_formula(text: str):
    cell = harmless_cell(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert "\n" not in cell
    assert harmless_cell(cell) == cell


def test_markdown_shows_what_is_there():
    page = leaderboard_markdown(leaderboard_of([annotations("gpt-4", 2.0, 1.0, 1.0)]))
    assert page.splitlines()[2].startswith("| gpt-4 | 33.3 | 33.3 | 1 | 2 | 0 | 3 | 33.3 | 2 |")
