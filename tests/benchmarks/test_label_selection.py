"""The comparison of selection rules: in its smallest form, resumed, and its table by hand."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.label_selection.__main__ import main
from benchmarks.label_selection.results import collect, markdown
from benchmarks.label_selection.study import RULES, _run_seed, run_study
from runs import PROJECT, write_to
from selfie.labelling.label_file import read_labels

RULE_NAMES = ["random", "disagreement"]


def record(rule: str, seed: int, win_rate: float) -> dict:
    return {
        "rule": rule,
        "budget": 30,
        "seed": seed,
        "win_rate": win_rate,
        "labels": 27 + seed,
        "ties": 2,
        "seconds": 9,
    }


def test_rules_are_compared_on_the_same_seeds():
    """Records come in the order in which workers end."""
    wins = {"uncertain": (66.0, 71.0), "random_twice": (61.0, 71.0), "random": (60.0, 70.0)}
    records = [record(name, seed, rates[seed]) for seed in (1, 0) for name, rates in wins.items()]
    results = collect(records, list(RULES))
    assert [(row["rule"], row["mean"]) for row in results] == [
        ("random", 65.0),
        ("random_twice", 66.0),
        ("uncertain", 68.5),
    ]
    assert results[0]["above"] == {}
    assert results[2]["above"] == {
        "random": {"mean": 3.5, "ci": [1.0, 6.0]},
        "random_twice": {"mean": 2.5, "ci": [0.0, 5.0]},
    }
    table = markdown(results)
    assert "| random | 30 | 65.0 [60.0, 70.0] | 60.0 | – | – | 27.5 | 2.0 | 9 |" in table
    assert "| uncertain | 30 | 68.5 [66.0, 71.0] | 66.0 | +3.5 [+1.0, +6.0] | +2.5 [+0.0, +5.0] | 27.5 |" in table


def test_a_rule_that_is_not_there_is_named():
    done = CliRunner().invoke(main, ["--rules", "random,best"])
    assert done.exit_code == 2
    assert "best: use some of random, diverse, random_twice, uncertain, disagreement" in done.output


def test_the_study_runs_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path):
    """In a process of its own, then, in this one, what a killed study would do again."""
    write_to(tmp_path, monkeypatch, empty_database)
    records = run_study(PROJECT, tmp_path, [0], [8], RULE_NAMES, workers=1, env="test")
    assert [row["rule"] for row in records] == RULE_NAMES
    for row in records:
        experiment = f"labels_{row['rule']}_8_0"
        asked = read_labels(tmp_path / f"01_raw/labels/{experiment}/gold.jsonl")
        assert len({label.pair for label in asked}) == len(asked) == 8 == row["labels"] + row["ties"]
        summary = json.loads((tmp_path / f"08_reporting/{experiment}/summary.json").read_text())
        assert [policy["name"] for policy in summary["iterations"]] == ["initial", "policy_0"]
        assert summary["iterations"][1]["win_rate"] == row["win_rate"]
        assert summary["iterations"][1]["n_pairs"] == row["labels"] > 0
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    again = (PROJECT, tmp_path, PROJECT / "conf", "test", 0, [8], RULE_NAMES)
    assert _run_seed(*again) == records
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == files
