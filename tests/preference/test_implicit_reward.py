"""Direct preference judgment, against numbers worked out by hand."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from selfie.preference.implicit_reward import (
    best_and_worst,
    implicit_reward,
    length_neutral,
    margin_weights,
    per_token,
    preference_probability,
)

REWARDS = st.floats(-20, 20)


def test_judgment_by_hand():
    """β = 0.5: r1 = 0.5·(−10 + 12) = 1 and r2 = 0.5·(−9 + 9) = 0, so p(y1 ≻ y2) = σ(1) = 1/(1 + e⁻¹).

    The second response is the more likely one; the first became more likely, which is what counts.
    """
    policy, initial = torch.tensor([-10.0, -9.0]), torch.tensor([-12.0, -9.0])
    rewards = implicit_reward(policy, initial, 0.5)
    torch.testing.assert_close(rewards, torch.tensor([1.0, 0.0]))
    assert preference_probability(*rewards).item() == pytest.approx(1 / (1 + math.exp(-1)))
    assert best_and_worst(rewards) == (0, 1)


def test_untrained_policy_has_no_preference():
    """π = π_init makes every reward 0 and every probability ½."""
    log_probs = torch.tensor([-3.0, -50.0])
    rewards = implicit_reward(log_probs, log_probs, 0.1)
    assert preference_probability(*rewards).item() == 0.5


def test_best_and_worst_of_four():
    assert best_and_worst(torch.tensor([0.2, -1.0, 3.0, 0.5])) == (2, 1)


@pytest.mark.parametrize(
    "eligible, expected",
    [
        ([True, True, False, True], (3, 1)),  # the best of those that may be chosen
        ([True, True, True, False], (2, 1)),
        ([False, True, False, False], (1, 1)),  # the only one is the worst: no pair
        ([False] * 4, (1, 1)),
    ],
)
def test_only_some_may_be_chosen_but_all_rejected(eligible: list[bool], expected: tuple[int, int]):
    assert best_and_worst(torch.tensor([0.2, -1.0, 3.0, 0.5]), torch.tensor(eligible)) == expected


@pytest.mark.parametrize("count", [2, 3, 4, 17, 64])
def test_equal_rewards_give_two_different_samples(count: int):
    """The sampled order decides: the first is chosen, the last rejected."""
    assert best_and_worst(torch.zeros(count)) == (0, count - 1)


@given(REWARDS, REWARDS)
def test_antisymmetry(first: float, second: float):
    """p(y1 ≻ y2) = 1 − p(y2 ≻ y1)."""
    r1, r2 = torch.tensor(first, dtype=torch.float64), torch.tensor(second, dtype=torch.float64)
    p = preference_probability(r1, r2).item()
    assert p == pytest.approx(1 - preference_probability(r2, r1).item(), abs=1e-12)
    assert (p > 0.5) == (first > second) or first == pytest.approx(second)


@given(st.lists(REWARDS, min_size=2, max_size=8))
def test_chosen_is_never_worse(values: list[float]):
    rewards = torch.tensor(values, dtype=torch.float64)
    chosen, rejected = best_and_worst(rewards)
    assert chosen != rejected
    assert values[chosen] == max(values)
    assert values[rejected] == min(values)


@given(st.lists(st.tuples(REWARDS, REWARDS), min_size=2, max_size=6), st.floats(0.01, 5))
def test_beta_scales_and_never_reorders(log_probs: list[tuple[float, float]], beta: float):
    """β > 0 stretches the rewards: the best and the worst response stay the same."""
    policy, initial = torch.tensor(log_probs, dtype=torch.float64).T
    differences = sorted((policy - initial).tolist())
    assume(all(b - a > 1e-6 for a, b in pairwise(differences)))
    rewards = implicit_reward(policy, initial, beta)
    torch.testing.assert_close(rewards, beta * implicit_reward(policy, initial, 1.0))
    assert best_and_worst(rewards) == best_and_worst(policy - initial)


def test_length_neutral_by_hand():
    """Two prompts, two responses each.

    Around their prompt's mean, rewards are −1, 1 and −½, ½, lengths −2, 2 and 1, −1. The slope is
    (2 + 2 − ½ − ½) / (4 + 4 + 1 + 1) = 0.3: from rewards 1, 3, 0, 1 go 0.3 × 2, 6, 5, 3.
    """
    rewards = torch.tensor([1.0, 3.0, 0.0, 1.0], dtype=torch.float64)
    neutral = length_neutral(rewards, torch.tensor([2, 6, 5, 3]), torch.tensor([0, 0, 1, 1]))
    assert neutral.tolist() == pytest.approx([0.4, 1.2, -1.5, 0.1])


def test_length_neutral_with_a_lone_response_and_short_lengths():
    """Rewards 0, 1 of 1 and 2 tokens: the slope is 1. A prompt's only response says nothing about length, and pays."""
    rewards = torch.tensor([0.0, 1.0, 5.0], dtype=torch.float64)
    assert length_neutral(rewards, torch.tensor([1, 2, 3]), torch.tensor([0, 0, 1])).tolist() == [-1.0, -1.0, 2.0]


def test_length_neutral_keeps_the_rewards_precision():
    """Rewards that are a hundredth of the length: nothing is left but float64's rounding."""
    tokens = torch.tensor([7, 8, 8])
    neutral = length_neutral(tokens.double() / 100, tokens, torch.zeros(3, dtype=torch.long))
    assert neutral.abs().max() < 1e-15


PROMPTS_OF_TWO = st.lists(st.tuples(REWARDS, st.integers(1, 300)), min_size=2, max_size=12).map(
    lambda samples: samples[: len(samples) // 2 * 2]
)


@given(PROMPTS_OF_TWO, st.floats(-3, 3))
def test_whatever_is_paid_for_length_is_taken_out(samples: list[tuple[float, int]], paid: float):
    """Margins are uncorrelated with the difference in length, and a price per token changes none of them."""
    values, tokens = (torch.tensor(column, dtype=torch.float64) for column in zip(*samples, strict=True))
    prompt = torch.arange(len(values) // 2).repeat_interleave(2)
    rewards = length_neutral(values, tokens, prompt)
    margins, differences = rewards[::2] - rewards[1::2], tokens[::2] - tokens[1::2]
    scale = float(values.abs().sum() * tokens.sum()) + 1
    assert abs(float(margins @ differences)) < 1e-9 * scale
    if differences.any():
        dearer = length_neutral(values + paid * tokens, tokens, prompt)
        torch.testing.assert_close(dearer[::2] - dearer[1::2], margins, atol=1e-6, rtol=1e-9)


@given(st.lists(REWARDS, min_size=2, max_size=8), st.integers(1, 300))
def test_equal_lengths_leave_nothing_to_correct(values: list[float], tokens: int):
    rewards = torch.tensor(values, dtype=torch.float64)
    one_prompt = torch.zeros(len(values), dtype=torch.long)
    torch.testing.assert_close(length_neutral(rewards, torch.full((len(values),), tokens), one_prompt), rewards)


def test_margin_weights_by_hand():
    """Margins 0, 1 and 5 have mean 2: weights 0, ½ and 2½. Where all are zero, nothing is known: even weights."""
    assert margin_weights(torch.tensor([0.0, 1.0, 5.0])).tolist() == [0.0, 0.5, 2.5]
    assert margin_weights(torch.tensor([0.0, 0.5])).tolist() == [0.0, 2.0]
    assert margin_weights(torch.zeros(3)).tolist() == [1.0, 1.0, 1.0]


def test_per_token_by_hand():
    """Means −1 and −2 a token, times the mean length of 3."""
    assert per_token(torch.tensor([-2.0, -8.0]), torch.tensor([2, 4])).tolist() == [-3.0, -6.0]
