"""What alignment cost: the metrics by hand-computed numbers, the files, and the pipeline itself."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient

from runs import PROJECT, run
from selfie.errors import ConfigurationError, DataError
from selfie.evaluation.capabilities import capability_metrics
from selfie.evaluation.capability_files import read_rows
from selfie.evaluation.harness import NEUTRAL_TEXT, check_harness, ifeval_task, run_test
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import Arithmetic

RAW = PROJECT / "data/01_raw"


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
    assert len(read_rows(str(RAW / "capability_questions.jsonl"), "questions")) >= 40
    assert len(read_rows(str(RAW / "neutral_text.jsonl"), "text")) >= 20


def test_lm_eval_is_asked_for_before_anything_runs(run_data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    with pytest.raises(ConfigurationError, match=r"lm_eval is not installed[\s\S]*make capabilities"):
        run("capabilities")


def test_the_pipeline_measures_every_policy_and_the_report_shows_it(run_data: Path):
    pytest.importorskip("lm_eval", reason="needs lm-eval: make capabilities")
    run("capabilities", capabilities={"max_items": 4})
    reporting = run_data / "08_reporting" / "test"
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
    assert "questions answered, %" in (reporting / "report.md").read_text()
    found = logged(run_data)
    assert {"win_rate", "questions_exact_match_change_ci_low"} <= found["policy_2"].keys()
    assert found["policy_2"]["questions_exact_match"] == policies["iteration_2"]["questions_exact_match"]
    before = (reporting / "iteration_1" / "capabilities.json").stat().st_mtime_ns
    run("capabilities", capabilities={"max_items": 4})  # done already: nothing is measured again
    assert (reporting / "iteration_1" / "capabilities.json").stat().st_mtime_ns == before


def logged(folder: Path) -> dict[str, dict[str, float]]:
    """The metrics of each policy's last child run in MLflow."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("test").experiment_id
    runs = client.search_runs([experiment], "tags.`mlflow.parentRunId` LIKE '%'", order_by=["start_time ASC"])
    return {one.info.run_name: one.data.metrics for one in runs}


IFEVAL = [
    {"prompt": "t0a t0b", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
    {
        "prompt": "t1a t1b",
        "instruction_id_list": ["length_constraints:number_words", "length_constraints:number_sentences"],
        "kwargs": [{"relation": "at least", "num_words": 99}, {"relation": "less than", "num_sentences": 9}],
    },
]


@pytest.fixture
def sentence_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """NLTK's data folder with a small punkt_tab, run_data on the neutral text."""
    pytest.importorskip("lm_eval", reason="needs lm-eval: make capabilities")
    punkt, data = pytest.importorskip("nltk.tokenize.punkt"), pytest.importorskip("nltk.data")
    monkeypatch.setattr(data, "path", [str(tmp_path)])
    text = " ".join(row["text"] for row in read_rows(str(RAW / "neutral_text.jsonl"), "text"))
    folder = tmp_path / "tokenizers/punkt_tab/english"
    folder.parent.mkdir(parents=True)
    punkt.save_punkt_params(punkt.PunktTrainer(text).get_params(), dir=str(folder))
    return folder


def test_ifevals_own_checkers_judge_the_answers(sentence_model: Path, tmp_path: Path, fp32_checkpoint: Checkpoint):
    """An answer of at most eight words has no comma, fewer than 99 words and fewer than nine sentences: 1/1 and 1/2."""
    file = tmp_path / "ifeval.jsonl"
    file.write_text("\n".join(json.dumps({"key": n, **row}) for n, row in enumerate(IFEVAL)))
    check_harness(ifeval=True)
    rows = read_rows(str(file), "ifeval")
    settings = (Arithmetic.FLOAT32, None, 256, 64, 0)
    items = run_test(ifeval_task(8), rows, fp32_checkpoint, *settings)
    assert items == run_test(ifeval_task(8), rows, fp32_checkpoint, *settings)
    assert all(0 < len(str(item["response"]).split()) <= 8 for item in items)
    metrics = capability_metrics({"ifeval": items}, None, samples=99, seed=0)
    assert metrics["ifeval_prompt_level_strict_acc"] == 50.0
    assert metrics["ifeval_inst_level_strict_acc"] == pytest.approx(200 / 3)
    with pytest.raises(ConfigurationError, match="128 tokens does not fit into the model's context of 128"):
        run_test(ifeval_task(128), rows, fp32_checkpoint, *settings)
    shutil.rmtree(sentence_model)
    with pytest.raises(ConfigurationError, match=r"punkt_tab is not there[\s\S]*nltk.downloader punkt_tab"):
        check_harness(ifeval=True)


def test_text_has_the_log_prob_that_transformers_gives(tiny_model: Any, fp32_checkpoint: Checkpoint):
    """Read after the token that lm-eval puts first, in float32."""
    pytest.importorskip("lm_eval", reason="needs lm-eval: make capabilities")
    text, tokenizer = "t0a w01 w02 w03 w00", fp32_checkpoint.load_tokenizer()
    (item,) = run_test(NEUTRAL_TEXT, [{"text": text}], fp32_checkpoint, Arithmetic.FLOAT32, None, 256, 64, 0)
    ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer(text, add_special_tokens=False).input_ids]])
    with torch.no_grad():
        log_probs = tiny_model(ids).logits.log_softmax(-1)[0, :-1]
    expected = log_probs.gather(1, ids[0, 1:, None]).sum().item()
    assert item["response"] == pytest.approx(expected, rel=1e-5)
    assert item["metrics"]["word_perplexity"] == (-item["response"], 5)


NAMESPACES = ("initial", "seeding", "iteration_1", "iteration_2")
