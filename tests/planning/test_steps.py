"""What each step of a run computes, from its parameters."""

from dataclasses import replace
from typing import Any

import pytest

from configuration import parameters
from planning_shapes import DEVICE, TINY
from selfie.planning.steps import DataSizes, Setting, choose_arithmetics, work_of
from selfie.planning.work import Work

SIZES = DataSizes(seed_pairs=56, evaluation_prompts=144, heldout_pairs=10, prompt=40, response=80, corpus=128)
LARGE = replace(TINY, parameters=10**8)


def setting(env: str = "base", **runtime: Any) -> Setting:
    read = parameters(env, **runtime)
    return Setting(read, SIZES, "transformers", choose_arithmetics(read, LARGE, DEVICE))


def work(step: str, namespace: str = "iteration_1", env: str = "base", **runtime: Any) -> Work:
    found = work_of(step, namespace, setting(env, **runtime))
    assert found is not None
    return found


def test_the_demos_responses_and_their_log_probs():
    """96 prompts, four samples: two of them the initial model's, so that two models are loaded; scored under both."""
    drawn = work("generate_responses")
    assert (drawn.rows, drawn.models, drawn.longest, drawn.batch_tokens) == (384, 2, 96, 16384)
    scored = work("score_responses")
    assert (scored.rows, scored.sharing, scored.models) == (768, 4, 2)
    assert (
        work("generate_responses", generation={"initial_samples": 0}, judging={"support_percentile": 0.0}).models == 1
    )


def test_the_demos_trainings():
    """Seeding: 56 pairs, twice. Iterations: a pair a prompt, and the seed pairs once more."""
    seeding, iteration = work("train_policy", "seeding"), work("train_policy")
    assert (seeding.rows, iteration.rows) == (2 * 56 * 2, 2 * (96 + 56))
    assert seeding.steps == 7
    assert (iteration.passes, iteration.models, iteration.sharing, iteration.arithmetic) == (4, 2, 2, "mixed")
    adapted = work("train_policy", training={"lora_rank": 8})
    assert (adapted.passes, adapted.models, adapted.lora_rank) == (3, 1, 8)


def test_the_evaluation_and_the_diagnostics():
    assert work("generate_outputs", "initial").rows == 144
    assert work("score_answers", "seeding").rows == 288  # after their own question and another one
    assert work("rejudge_pairs").rows == 2 * 96
    assert work("rejudge_pairs", prompts_per_iteration=[5000]).rows == 2 * 256
    assert work("score_heldout").rows == 20
    assert work("measure_precision").rows == 4 * 4 * 12  # an eighth of the prompts
    assert work_of("measure", "iteration_1", setting()) is None
    assert work("rejudge_pairs").alone
    assert not work("score_responses").alone


def test_responses_end_at_the_limit():
    assert work("generate_outputs", evaluation={"max_new_tokens": 30}).response == 30
    assert work("generate_outputs").response == 80


def test_judges_take_models():
    assert work_of("judge_responses", "iteration_1", setting()) is None  # the implicit reward has its log-probs
    reward_model = work("judge_responses", method="reward_model", env="synthetic")
    assert reward_model.rows == 2 * 240
    asked = work("judge_responses", method="llm_judge", env="synthetic")
    assert (asked.rows, asked.sharing, asked.response) == (4 * 240, 2, 1)  # two orders, two verdicts
    assert work("fit_reward_model", "", method="reward_model", env="synthetic").rows == 2 * 56 * 3
    assert work("pretrain_model", "", env="synthetic").steps == 2  # 128 rows, 64 a step


def test_an_endpoint_is_asked_in_both_orders_at_its_pace():
    endpoint = {"model": "judge", "concurrency": 4}
    annotation = {"endpoint": endpoint}
    asked = work("annotate_outputs", evaluation={"annotator": "openai_api"}, annotation=annotation)
    assert asked.kind == "asking"
    assert (asked.rows, asked.pace) == (288, 0.5)
    slow = {"endpoint": {**endpoint, "requests_per_minute": 6}, "order": "random"}
    asked = work("annotate_outputs", evaluation={"annotator": "openai_api"}, annotation=slow)
    assert (asked.rows, asked.pace) == (144, 10)
    assert asked.prompt > 40 + 2 * 80
    baseline = setting(evaluation={"annotator": "openai_api"}, annotation=annotation)
    assert work_of("annotate_outputs", "initial", baseline) is None  # compared with itself: drawn without a question


@pytest.mark.parametrize(
    ("large", "device", "expected"),
    [
        (True, DEVICE, {"sampling": "bfloat16", "evaluation": "bfloat16", "scoring": "tf32", "training": "mixed"}),
        (False, DEVICE, {"sampling": "float32", "evaluation": "float32", "scoring": "tf32", "training": "float32"}),
        (True, replace(DEVICE, bf16=False, scoring="float32"), dict.fromkeys(setting().arithmetics, "float32")),
    ],
)
def test_auto_is_chosen_by_device_and_size(large: bool, device: Any, expected: dict[str, str]):
    assert choose_arithmetics(parameters(), LARGE if large else TINY, device) == expected
    asked = parameters(precision={"scoring": "bfloat16"})
    assert choose_arithmetics(asked, TINY, device)["scoring"] == "bfloat16"
