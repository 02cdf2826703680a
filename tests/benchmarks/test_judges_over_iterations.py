"""Judges of a run that was really made, asked about the responses of its first iteration."""

from pathlib import Path

import pytest

from benchmarks.judges_over_iterations import judges, table
from benchmarks.runs_over_seeds import load_catalog
from runs import PROJECT


def test_the_first_judge_is_the_one_that_made_the_labels(finished_run: Path, monkeypatch: pytest.MonkeyPatch):
    """The others see the same responses."""
    monkeypatch.setenv("SELFIE_DATA", str(finished_run))
    catalog = load_catalog(PROJECT, "test", experiment="test")
    found = judges(catalog)
    assert [judge["judge"] for judge in found] == ["policy_0", "policy_1"]
    assert found[0]["labels"] == catalog.load("iteration_1.labels")["label_accuracy"]
    assert len({judge["any_two"]["compared"] for judge in found}) == 1
    assert found[0]["any_two"] != found[1]["any_two"]
    assert all(judge["two_whole"]["compared"] <= judge["any_two"]["compared"] for judge in found)
    assert table({"test": found}).count("| test | policy_") == 2
