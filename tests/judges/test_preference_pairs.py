"""From rewards to pairs: which two of n, and what comes along for the trainer."""

import logging
import math
from typing import Any

import pytest
import torch
from datasets import Dataset

from selfie.config.gold import GoldParameters
from selfie.config.parameters import JudgingParameters
from selfie.errors import ConfigurationError
from selfie.judges.preference_pairs import build_pairs
from selfie.judges.response_rewards import response_rewards

LOGIT, GOLD = (JudgingParameters(judge=judge, batch_tokens=64) for judge in ("implicit_reward", "gold"))


def sample(prompt: str, token: int, policy: float = 0.0, initial: float = 0.0, response: str = "") -> dict[str, Any]:
    return {
        "iteration": 2,
        "prompt_id": f"id of {prompt}",
        "prompt": prompt,
        "prompt_ids": [3, len(prompt), 4],
        "response": response or f"answer {token}",
        "response_ids": [token, 1],
        "policy_log_prob": policy,
        "initial_log_prob": initial,
    }


def test_best_and_worst_of_four_by_hand():
    """β = 0.1; gains of −2, +5, 0 and −4 nats: rewards −0.2, 0.5, 0, −0.4. The second is chosen, the fourth rejected.

    p = σ(0.5 + 0.4); the reference's log-probs are the policy's own, for training starts from it.
    """
    scored = Dataset.from_list(
        [
            sample("p", 10, policy=-12.0, initial=-10.0),
            sample("p", 11, policy=-30.0, initial=-35.0),
            sample("p", 12, policy=-1.0, initial=-1.0),
            sample("p", 13, policy=-9.0, initial=-5.0),
        ]
    )
    rewards = response_rewards(scored, LOGIT, beta=0.1, gold=None)
    assert rewards.tolist() == pytest.approx([-0.2, 0.5, 0.0, -0.4])
    (pair,) = build_pairs(scored, rewards)
    assert pair.pop("chosen_reward") == pytest.approx(0.5)
    assert pair.pop("rejected_reward") == pytest.approx(-0.4)
    assert pair.pop("margin") == pytest.approx(0.9)
    assert pair.pop("probability") == pytest.approx(1 / (1 + math.exp(-0.9)))
    assert pair == {
        "pair": 0,
        "iteration": 2,
        "prompt_id": "id of p",
        "prompt": "p",
        "prompt_ids": [3, 1, 4],
        "chosen": "answer 11",
        "rejected": "answer 13",
        "chosen_ids": [11, 1],
        "rejected_ids": [13, 1],
        "weight": 1.0,
    }


def test_identical_samples_give_no_pair(caplog: pytest.LogCaptureFixture):
    """The prompt is left out and counted; the others' numbers have no gap."""
    rows = [sample("a", 10), sample("a", 11), sample("b", 12), sample("b", 12), sample("c", 13), sample("c", 14)]
    with caplog.at_level(logging.WARNING):
        pairs = build_pairs(Dataset.from_list(rows), torch.tensor([1.0, 2.0, 1.0, 1.0, 2.0, 1.0]))
    assert pairs["prompt"][:] == ["a", "c"]
    assert pairs["pair"][:] == [0, 1]
    assert pairs["chosen"][:] == ["answer 11", "answer 13"]
    assert "1 of 3 prompts gave no pair" in caplog.text


def test_pairs_weigh_as_their_margins_do():
    """Margins 1 and 3 have mean 2."""
    rows = [sample(prompt, token) for prompt, token in zip("aabb", range(10, 14), strict=True)]
    rewards = torch.tensor([0.0, 1.0, 3.0, 0.0])
    assert build_pairs(Dataset.from_list(rows), rewards, "margin")["weight"][:] == [0.5, 1.5]
    assert build_pairs(Dataset.from_list(rows), rewards)["weight"][:] == [1.0, 1.0]


def test_rewards_that_fp32_can_not_tell_apart():
    """The second sample is better by 3e-7 of 300, in both prompts: equal in fp32, where the first would be chosen."""
    rows = [sample(prompt, token) for prompt, token in zip("aabb", range(10, 14), strict=True)]
    rewards = torch.tensor([300.0, 300.0 + 3e-7, -300.0, -300.0 + 3e-7], dtype=torch.float64)
    pairs = build_pairs(Dataset.from_list(rows), rewards, "margin")
    assert pairs["chosen_ids"][:] == [[11, 1], [13, 1]]
    assert pairs["margin"][:] == pytest.approx([3e-7, 3e-7], rel=1e-3)
    assert pairs["probability"][:] == pytest.approx([0.5 + 3e-7 / 4] * 2, abs=1e-12)
    assert pairs["weight"][:] == pytest.approx([1.0, 1.0])


def test_gold_judge_follows_the_annotator():
    """The upper bound: what the annotator prefers, whatever the log-probs say."""
    rows = [sample("p", 10, policy=9.0, response="One."), sample("p", 11, policy=-9.0, response="Two words.")]
    scored = Dataset.from_list(rows)
    gold = GoldParameters(annotator="style_guide", checks={"word_count": {"least": 2, "most": 9}})
    rewards = response_rewards(scored, GOLD, beta=0.1, gold=gold)
    (pair,) = build_pairs(scored, rewards)
    assert pair["chosen"] == "Two words."


def test_gold_judge_needs_an_annotator():
    with pytest.raises(ConfigurationError, match="needs a gold annotator"):
        response_rewards(Dataset.from_list([sample("p", 10)]), GOLD, beta=0.1, gold=None)


def test_nearly_equal_log_probs_of_long_responses_are_told_apart():
    """Sums near −3,000 have steps of 0.0002 in fp32; a gain of 0.0001 nats must not vanish."""
    rows = [sample("p", 10, policy=-3000.0, initial=-3000.0), sample("p", 11, policy=-2999.9999, initial=-3000.0)]
    scored = Dataset.from_list(rows)
    (pair,) = build_pairs(scored, response_rewards(scored, LOGIT, beta=0.1, gold=None))
    assert pair["chosen_ids"] == [11, 1]
