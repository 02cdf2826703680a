"""Drift: KL by hand, and judging again with a real model."""

import pytest
from datasets import Dataset

from selfie.config.parameters import JudgingParameters
from selfie.diagnostics import drift
from selfie.diagnostics.drift import flips, kl_from_initial, rejudge
from selfie.scoring.log_probs import score

LOGIT = JudgingParameters(judge="implicit_reward", batch_tokens=4096)


def scored(log_ratios: dict[str, list[float]]) -> Dataset:
    return Dataset.from_list(
        [
            {"prompt_id": prompt, "policy_log_prob": ratio - 5, "initial_log_prob": -5.0}
            for prompt, ratios in log_ratios.items()
            for ratio in ratios
        ]
    )


def test_kl_by_hand():
    """Prompt means 2, 4 and 6: mean 4, standard error 2/√3, t(2) = 4.3027."""
    kl = kl_from_initial(scored({"a": [1, 3], "b": [4, 4], "c": [5, 7]}))
    assert kl["kl_from_initial"] == pytest.approx(4)
    assert kl["kl_from_initial_ci"] == pytest.approx([4 - 4.3027 * 2 / 3**0.5, 4 + 4.3027 * 2 / 3**0.5], abs=1e-3)


def test_kl_of_a_policy_that_has_not_moved_and_of_one_prompt():
    assert kl_from_initial(scored({"a": [0, 0], "b": [0, 0]})) == {"kl_from_initial": 0, "kl_from_initial_ci": [0, 0]}
    assert kl_from_initial(scored({"a": [1, 2]})) == {"kl_from_initial": 1.5, "kl_from_initial_ci": None}


@pytest.fixture
def responses(fp32_checkpoint):
    """Two samples a prompt, the tiny model being the initial one and the policy at once."""
    prompts = [[3, 53 + n, 4] for n in range(6)]
    sampled = [[5 + n, 6 + k, 1] for n in range(6) for k in (0, 7)]
    both = [prompt for prompt in prompts for _ in range(2)]
    log_probs = score(fp32_checkpoint, both, sampled, 4096, "test")
    return [
        {"prompt_ids": prompt, "response_ids": response, "initial_log_prob": value}
        for prompt, response, value in zip(both, sampled, log_probs, strict=True)
    ]


def pairs_of(rows) -> Dataset:
    return Dataset.from_list(
        [
            {
                **{"pair": n, "prompt_id": str(n), "prompt": f"t0a {n}", "prompt_ids": a["prompt_ids"]},
                **{"chosen": "w00", "chosen_ids": a["response_ids"]},
                **{"rejected": "w01", "rejected_ids": b["response_ids"]},
            }
            for n, (a, b) in enumerate(zip(rows[::2], rows[1::2], strict=True))
        ]
    )


def test_the_initial_model_itself_sees_no_margin(fp32_checkpoint, responses):
    again = rejudge(pairs_of(responses), Dataset.from_list(responses), fp32_checkpoint, LOGIT, 0.1, seed=0)
    assert again["pair"][:] == list(range(6))
    assert again["next_margin"][:] == pytest.approx([0] * 6, abs=1e-5)


def test_the_margin_is_the_implicit_rewards(fp32_checkpoint, responses):
    """With initial log-probs lowered by 2 (chosen) and 5 (rejected), β·(2 − 5) is left."""
    shifted = [
        {**row, "initial_log_prob": row["initial_log_prob"] - (2 if n % 2 == 0 else 5)}
        for n, row in enumerate(responses)
    ]
    again = rejudge(pairs_of(responses), Dataset.from_list(shifted), fp32_checkpoint, LOGIT, 0.1, seed=0)
    assert again["next_margin"][:] == pytest.approx([-0.3] * 6, abs=1e-5)
    assert flips(again["next_margin"])["flip_rate"] == 1


def test_many_pairs_are_sampled_by_the_seed(fp32_checkpoint, responses, monkeypatch):
    monkeypatch.setattr(drift, "REJUDGED_PAIRS", 4)
    arguments = pairs_of(responses), Dataset.from_list(responses), fp32_checkpoint, LOGIT, 0.1
    drawn = {seed: rejudge(*arguments, seed=seed)["pair"][:] for seed in range(5)}
    assert {len(pairs) for pairs in drawn.values()} == {4}
    assert len({tuple(pairs) for pairs in drawn.values()}) > 1
    assert rejudge(*arguments, seed=3)["pair"][:] == drawn[3]


def test_flips_by_hand():
    assert flips([0.2, -0.1, 0.0, -3])["flip_rate"] == 0.5
