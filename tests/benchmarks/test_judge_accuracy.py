"""A judge's accuracy over every two responses to a prompt, by hand."""

import numpy as np
import pytest

from benchmarks.judge_accuracy import accuracy


def test_pairs_of_equal_score_or_of_two_prompts_are_not_compared():
    """p: of 2 > 1, 2 > 0 and 1 > 0 the judge has the first two right; q has one pair, which is wrong; r has none."""
    rewards = np.array([3.0, 1.0, 2.0, 0.0, 9.0, 5.0, 4.0])
    found = accuracy(["p", "p", "p", "q", "q", "r", "r"], rewards, [2, 1, 0, 1, 0, 1, 1])
    assert found["compared"] == 4
    assert found["accuracy"] == pytest.approx(2 / 4)
    assert found["ci"] == [0.0, pytest.approx(2 / 3)]  # q alone, p alone


def test_nothing_to_compare():
    assert accuracy([], np.zeros(0), []) == {"accuracy": None, "ci": None, "compared": 0}
    assert accuracy(["p", "p"], np.zeros(2), [1, 1]) == {"accuracy": None, "ci": None, "compared": 0}
