"""Win rates, against numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfie.evaluation.win_rate import length_controlled_win_rate, win_rate, win_rate_interval

PREFERENCES = st.lists(st.sampled_from([1.0, 1.5, 2.0]), min_size=2, max_size=40)


def test_win_rate_by_hand():
    """Two wins, a draw and a loss: (1 + 1 + ½ + 0)/4 = 62.5%."""
    assert win_rate([2.0, 2.0, 1.5, 1.0]) == 62.5


def test_interval_by_theory():
    """150 wins of 200: the mean's standard error is √(0.75·0.25/200) = 3.06 points, so 75 ± 1.96·3.06 = 69 … 81."""
    low, high = win_rate_interval([2.0] * 150 + [1.0] * 50, samples=5000, seed=0)
    assert (low, high) == (pytest.approx(69.0, abs=1.0), pytest.approx(81.0, abs=1.0))


def test_interval_is_repeatable_and_narrows():
    """The same seed gives the same interval; four times the answers halve it."""
    preferences = [2.0, 1.0, 1.5, 2.0, 1.0, 2.0, 2.0, 1.0, 1.5, 2.0]
    narrow, wide = (win_rate_interval(preferences * n, samples=4000, seed=0) for n in (16, 4))
    assert win_rate_interval(preferences * 16, samples=4000, seed=0) == narrow
    assert win_rate_interval(preferences * 16, samples=4000, seed=1) != narrow
    assert (wide[1] - wide[0]) / (narrow[1] - narrow[0]) == pytest.approx(2.0, abs=0.2)


@pytest.mark.parametrize("preferences", [[2.0] * 5, [1.0] * 5, [1.5] * 3, [2.0], [1.5]])
def test_unanimous_preferences_have_no_spread(preferences: list[float]):
    """Nothing to resample and nothing to regress: the interval and the controlled rate are the rate itself."""
    rate = win_rate(preferences)
    assert win_rate_interval(preferences, samples=100, seed=0) == (rate, rate)
    assert length_controlled_win_rate(preferences, range(len(preferences)), [0] * len(preferences)) == rate


@given(PREFERENCES, st.integers(0, 5))
def test_interval_holds_the_rate(preferences: list[float], seed: int):
    low, high = win_rate_interval(preferences, samples=200, seed=seed)
    assert 0 <= low <= high <= 100
    assert low - 1e-9 <= win_rate(preferences) <= high + 1e-9


@pytest.mark.parametrize("quality", [0.0, 0.8, -1.5])
def test_the_bonus_of_length_is_taken_out(quality: float):
    """Wins drawn with the odds e^(quality + 1.5·tanh(d/sd(d))), the model longer by 150 ± 150 characters.

    Length lifts the raw rate by more than 10 points; between answers of equal length σ(quality) is left.
    """
    rng = np.random.default_rng(0)
    difference = rng.normal(150, 150, size=4000).round()
    odds = np.exp(quality + 1.5 * np.tanh(difference / difference.std()))
    preferences = 1.0 + (rng.random(4000) < odds / (1 + odds))
    fair = 100 / (1 + np.exp(-quality))
    assert win_rate(preferences) > fair + 10
    baseline = np.full(4000, 1000)
    assert length_controlled_win_rate(preferences, baseline + difference, baseline) == pytest.approx(fair, abs=3.0)


def test_length_that_decides_nothing_changes_nothing():
    """70% wins among longer and among shorter answers alike: controlled 70% too."""
    preferences = [2.0] * 7 + [1.0] * 3
    lengths = [150] * 10 + [50] * 10
    assert length_controlled_win_rate(preferences * 2, lengths, [100] * 20) == pytest.approx(70.0, abs=0.1)


def test_equal_lengths_leave_the_raw_rate():
    assert length_controlled_win_rate([2.0, 2.0, 1.0, 1.5], [7] * 4, [7] * 4) == 62.5


@given(PREFERENCES, st.data())
def test_the_other_side_has_the_rest(preferences: list[float], data: st.DataObject):
    """Exchanging model and baseline turns p into 100 − p, raw and controlled."""
    lengths = st.lists(st.integers(1, 500), min_size=len(preferences), max_size=len(preferences))
    ours, theirs = data.draw(lengths), data.draw(lengths)
    exchanged = [3.0 - preference for preference in preferences]
    assert win_rate(exchanged) == pytest.approx(100 - win_rate(preferences))
    controlled = length_controlled_win_rate(preferences, ours, theirs)
    assert 0 <= controlled <= 100
    assert length_controlled_win_rate(exchanged, theirs, ours) == pytest.approx(100 - controlled, abs=0.05)
