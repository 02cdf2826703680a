import math

import pytest
import torch

from selfie.preference.support import (
    outside_support,
    response_statistics,
    rewards_within_support,
    support_bounds,
)


def test_statistics_by_hand():
    statistics = response_statistics([[5, 6, 5, 6, 5], [7]], torch.tensor([-10.0, -3.0]))
    # pairs 56 65 56 65: two different ones of four; a single token has no pair
    assert statistics.tolist() == [[5.0, 0.5, -2.0], [1.0, 0.0, -3.0]]
    assert statistics.dtype == torch.float64


def test_bounds_leave_the_percentile_on_both_sides():
    statistics = torch.arange(101.0).unsqueeze(1)
    assert support_bounds(statistics, 10.0).tolist() == [[10.0], [90.0]]


@pytest.mark.parametrize("value, outside", [(9.9, True), (10.0, False), (90.0, False), (90.1, True)])
def test_beyond_a_bound_is_outside(value, outside):
    bounds = torch.tensor([[10.0, 0.0], [90.0, 1.0]])
    assert outside_support(torch.tensor([[value, 0.5]]), bounds).tolist() == [outside]


def test_one_statistic_beyond_its_bounds_suffices():
    bounds = torch.tensor([[10.0, 0.0], [90.0, 1.0]])
    assert outside_support(torch.tensor([[50.0, 1.5]]), bounds).tolist() == [True]


def test_a_response_outside_loses_against_those_inside_by_one_standard_deviation():
    rewards = torch.tensor([1.0, 3.0, 9.0], dtype=torch.float64)
    outside = torch.tensor([False, False, True])
    # inside: mean 2, deviations ∓1, so one standard deviation is 1; the lowest inside is 1
    assert rewards_within_support(rewards, outside, torch.tensor([0, 0, 0])).tolist() == [1.0, 3.0, 0.0]


def test_a_lower_reward_outside_stays():
    rewards = torch.tensor([1.0, 3.0, -5.0], dtype=torch.float64)
    outside = torch.tensor([False, False, True])
    assert rewards_within_support(rewards, outside, torch.tensor([0, 0, 0])).tolist() == [1.0, 3.0, -5.0]


def test_a_prompt_with_nothing_inside_says_nothing():
    rewards = torch.tensor([1.0, 3.0, 4.0, 6.0], dtype=torch.float64)
    outside = torch.tensor([False, False, True, True])
    within = rewards_within_support(rewards, outside, torch.tensor([0, 0, 1, 1]))
    assert within[:2].tolist() == [1.0, 3.0]
    assert all(value == -math.inf for value in within[2:].tolist())


def test_all_inside_changes_nothing():
    rewards = torch.randn(6, dtype=torch.float64)
    none = torch.zeros(6, dtype=torch.bool)
    assert torch.equal(rewards_within_support(rewards, none, torch.tensor([0, 0, 1, 1, 2, 2])), rewards)
