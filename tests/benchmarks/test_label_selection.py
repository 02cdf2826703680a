"""The comparison of selection rules: in its smallest form, resumed, and its table by hand."""

from pathlib import Path

import pytest

from benchmarks.label_selection.study import collect, markdown, run_study
from runs import PROJECT, write_to


def record(selection: str, seed: int, win_rate: float) -> dict:
    return {"selection": selection, "budget": 30, "seed": seed, "win_rate": win_rate, "labels": 28, "ties": 2}


def test_rules_are_compared_on_the_same_seeds():
    wins = {"random": (60.0, 70.0), "diverse": (65.0, 71.0)}
    results = collect([record(name, seed, rate) for name, rates in wins.items() for seed, rate in enumerate(rates)])
    assert [row["mean"] for row in results] == [65.0, 68.0]
    assert results[1]["above_random_mean"] == 3.0
    assert results[1]["above_random_ci"] == [1.0, 5.0]
    assert "| diverse | 30 | 68.0 [65.0, 71.0] | 65.0 | +3.0 [+1.0, +5.0] | 28 | 2 |" in markdown(results)


def test_the_study_runs_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path):
    write_to(tmp_path, monkeypatch, empty_database)
    records = run_study(PROJECT, tmp_path, [0], [8], ["random", "uncertain"], env="test")
    assert [row["selection"] for row in records] == ["random", "uncertain"]
    assert all(0 < row["labels"] <= 8 and row["labels"] + row["ties"] <= 8 for row in records)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert run_study(PROJECT, tmp_path, [0], [8], ["random", "uncertain"], env="test") == records
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == files
