"""What alignment cost: the metrics by hand-computed numbers, the files, and the pipeline itself."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from runs import PROJECT, run, write_to
from selfie.errors import ConfigurationError, DataError
from selfie.evaluation.capabilities import capability_metrics
from selfie.evaluation.capability_files import read_rows


def item(number: int, name: str, numerator: float, denominator: float) -> Any:
    return {"item": number, "response": "", "metrics": {name: (numerator, denominator)}}


def test_shares_and_paired_changes_in_percent():
    initial = [item(n, "exact_match", right, 1) for n, right in enumerate([1, 1, 0, 0])]
    policy = [item(n, "exact_match", right, 1) for n, right in enumerate([1, 0, 0, 0])]
    found = capability_metrics({"questions": policy}, {"questions": initial}, samples=999, seed=0)
    assert found["questions_items"] == 4
    assert found["questions_exact_match"] == 25.0
    assert found["questions_exact_match_change"] == -25.0  # one of four was lost
    low, high = found["questions_exact_match_change_ci"]
    assert low == -75.0 and high == 0.0  # of four differences −1, 0, 0, 0 none is above 0


def test_items_are_paired_by_their_number_not_by_their_place():
    initial = [item(1, "exact_match", 1, 1), item(0, "exact_match", 0, 1)]
    policy = [item(0, "exact_match", 0, 1), item(1, "exact_match", 1, 1)]
    found = capability_metrics({"questions": policy}, {"questions": initial}, samples=99, seed=0)
    assert found["questions_exact_match_change_ci"] == [0.0, 0.0]


def test_perplexity_is_of_all_words_together():
    # −log p and words: (2, 1) and (4, 3), against (1, 1) and (3, 3)
    policy = [item(0, "word_perplexity", 2.0, 1), item(1, "word_perplexity", 4.0, 3)]
    initial = [item(0, "word_perplexity", 1.0, 1), item(1, "word_perplexity", 3.0, 3)]
    found = capability_metrics({"neutral_text": policy}, {"neutral_text": initial}, samples=99, seed=0)
    assert found["neutral_text_word_perplexity"] == pytest.approx(math.exp(6 / 4))
    assert found["neutral_text_word_perplexity_ratio"] == pytest.approx(math.exp(2 / 4))


def test_a_test_without_items_is_left_out():
    assert capability_metrics({"ifeval": []}, None, samples=9, seed=0) == {}


def test_the_initial_model_is_compared_with_nothing():
    found = capability_metrics({"questions": [item(0, "exact_match", 1, 1)]}, None, samples=9, seed=0)
    assert set(found) == {"questions_items", "questions_exact_match", "questions_exact_match_ci"}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"question": "What?"}', "row 2: answers: Field required"),
        ('{"question": "What?", "answers": []}', "row 2: answers: List should have at least 1 item"),
        ("{", "row 2"),
    ],
)
def test_a_file_of_questions_that_is_wrong_says_where(tmp_path: Path, line: str, problem: str):
    file = tmp_path / "questions.jsonl"
    file.write_text('{"question": "Is it?", "answers": ["yes"]}\n' + line + "\n")
    with pytest.raises(DataError, match=problem):
        read_rows(str(file), "questions")


def test_the_shipped_files_can_be_read():
    raw = PROJECT / "data" / "01_raw"
    assert len(read_rows(str(raw / "capability_questions.jsonl"), "questions")) >= 40
    assert len(read_rows(str(raw / "neutral_text.jsonl"), "text")) >= 20


def test_lm_eval_is_asked_for_before_anything_runs(trained: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    with pytest.raises(ConfigurationError, match=r"lm_eval is not installed[\s\S]*make capabilities"):
        run("capabilities")


def test_the_pipeline_measures_every_policy_and_the_report_shows_it(trained: Path):
    pytest.importorskip("lm_eval", reason="needs lm-eval: make capabilities")
    run("capabilities", capabilities={"max_items": 4})
    reporting = trained / "08_reporting" / "test"
    policies = {name: json.loads((reporting / name / "capabilities.json").read_text()) for name in NAMESPACES}
    assert "questions_exact_match_change" not in policies["initial"]
    for name in NAMESPACES[1:]:
        assert policies[name]["questions_items"] == policies[name]["neutral_text_items"] == 4
        ratio = policies[name]["neutral_text_word_perplexity"] / policies["initial"]["neutral_text_word_perplexity"]
        assert policies[name]["neutral_text_word_perplexity_ratio"] == pytest.approx(ratio, rel=1e-6)
    summary = json.loads((reporting / "summary.json").read_text())
    assert [row["neutral_text_word_perplexity"] for row in summary["iterations"]] == [
        policies[name]["neutral_text_word_perplexity"] for name in NAMESPACES
    ]
    assert "Alignment tax" in (reporting / "report.html").read_text()
    before = (reporting / "iteration_1" / "capabilities.json").stat().st_mtime_ns
    run("capabilities", capabilities={"max_items": 4})  # done already: nothing is measured again
    assert (reporting / "iteration_1" / "capabilities.json").stat().st_mtime_ns == before


NAMESPACES = ("initial", "seeding", "iteration_1", "iteration_2")


@pytest.fixture
def trained(finished_run: Path, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shared run, to write to."""
    folder = Path(shutil.copytree(finished_run, tmp_path / "data"))
    write_to(folder, monkeypatch, empty_database)
    return folder
