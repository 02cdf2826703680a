"""Sense of the answers: by hand, and with a real model."""

import math

import pytest
from datasets import Dataset

from selfie.diagnostics.sanity import answers_under_initial, find_drift, other_questions, score_under_initial
from selfie.models.chat_template import render
from selfie.models.precision import Arithmetic
from selfie.scoring.log_probs import score
from selfie.synthetic.language import all_prompts


def answer(instruction: str, tokens: int, finish_reason: str = "stop") -> dict:
    return {"instruction": instruction, "response_ids": [7] * tokens, "finish_reason": finish_reason}


def test_measures_by_hand():
    """12 nats over 6 tokens: perplexity e². a and b fit their questions better, c does not; c is cut."""
    outputs = [answer("a", 1), answer("b", 2), answer("c", 3, "length")]
    scores = Dataset.from_dict({"log_prob": [-1.0, -2.0, -9.0], "other_log_prob": [-2.0, -2.5, -8.0]})
    measured = answers_under_initial(outputs, scores)
    assert measured["perplexity"] == pytest.approx(math.exp(2))
    assert measured["on_topic"] == pytest.approx(2 / 3)
    assert measured["truncated"] == pytest.approx(1 / 3)
    assert measured["on_topic_ci"] == pytest.approx([0.2077, 0.9385], abs=1e-4)  # Wilson's of 2 in 3


def test_one_question_has_no_other():
    scores = Dataset.from_dict({"log_prob": [-1.0, -1.0], "other_log_prob": [-1.0, -1.0]})
    measured = answers_under_initial([answer("a", 1), answer("a", 1)], scores)
    assert (measured["on_topic"], measured["on_topic_ci"]) == (None, None)


def test_other_questions_are_a_derangement_that_the_seed_draws():
    questions = [f"q{n}" for n in range(20)]
    other = other_questions(questions, seed=3)
    assert set(other) == set(other.values()) == set(questions)
    assert all(one != another for one, another in other.items())
    assert other_questions(reversed([*questions, "q1"]), seed=3) == other
    assert other_questions(questions, seed=4) != other


def test_scores_are_the_models_after_both_questions(fp32_checkpoint):
    prompts = all_prompts()[:4]
    outputs = [answer(prompt, 2 + number) for number, prompt in enumerate(prompts)]
    scores = score_under_initial(outputs, fp32_checkpoint, 4096, 0, Arithmetic.FLOAT32)
    other = other_questions(prompts, 0)
    tokenizer = fp32_checkpoint.load_tokenizer()
    for column, questions in (("log_prob", prompts), ("other_log_prob", [other[prompt] for prompt in prompts])):
        ids = [render(tokenizer, [{"role": "user", "content": question}]) for question in questions]
        expected = score(fp32_checkpoint, ids, [record["response_ids"] for record in outputs], 4096, "test")
        assert scores[column][:] == pytest.approx(expected.tolist(), abs=1e-4)
    assert scores["log_prob"][:] != pytest.approx(scores["other_log_prob"][:], abs=1e-3)


def test_a_conversation_is_scored_after_all_its_turns(fp32_checkpoint):
    first, second = all_prompts()[:2]
    messages = [
        {"role": "user", "content": first},
        {"role": "assistant", "content": "w00"},
        {"role": "user", "content": second},
    ]
    outputs = [{**answer("the whole conversation", 3), "messages": messages}, answer(second, 3)]
    scores = score_under_initial(outputs, fp32_checkpoint, 4096, 0, Arithmetic.FLOAT32)
    ids = render(fp32_checkpoint.load_tokenizer(), messages)
    (expected,) = score(fp32_checkpoint, [ids], [[7] * 3], 4096, "test")
    assert scores["log_prob"][0] == pytest.approx(expected, abs=1e-4)
    assert scores["other_log_prob"][1] == pytest.approx(expected, abs=1e-4)


INITIAL = {"perplexity": 4.0, "on_topic": 0.9, "truncated": 0.2, "repetition": 0.01}
WON, LOST = [51.0, 70.0], [40.0, 60.0]


@pytest.mark.parametrize(
    ("changed", "reasons"),
    [
        ({}, {}),
        ({"perplexity": 6.0, "truncated": 0.25, "on_topic": 0.86, "repetition": 0.05}, {}),
        ({"perplexity": 6.4}, {"perplexity_ratio": 1.6}),
        ({"truncated": 0.31}, {"truncated": 0.31}),
        ({"on_topic": 0.84}, {"on_topic": 0.84}),
        ({"repetition": 0.051}, {"repetition": 0.051}),
        ({"perplexity": 8.0, "on_topic": 0.5}, {"perplexity_ratio": 2.0, "on_topic": 0.5}),
        ({"on_topic": None, "repetition": None}, {}),
    ],
)
def test_what_a_winner_loses(changed, reasons):
    """The limits are 1.5 · 4.0, 0.2 + 0.1, 0.9 − 0.05 and 3 · 0.01 + 0.02."""
    found = find_drift({**INITIAL, **changed}, INITIAL, WON, None)
    assert found["drift_reasons"] == pytest.approx(reasons)
    assert found["drifted"] is bool(reasons)
    assert found["perplexity_ratio"] == pytest.approx(changed.get("perplexity", 4.0) / 4.0)


@pytest.mark.parametrize(
    ("win_rate_ci", "change_ci", "drifted"),
    [(WON, [-0.1, 0.1], True), (LOST, [0.01, 0.2], True), (LOST, [-0.1, 0.1], False), (None, None, False)],
)
def test_only_a_winner_drifts(win_rate_ci, change_ci, drifted):
    found = find_drift({**INITIAL, "on_topic": 0.1}, INITIAL, win_rate_ci, change_ci)
    assert found["drifted"] is drifted
    assert found["drift_reasons"] == ({"on_topic": 0.1} if drifted else {})
