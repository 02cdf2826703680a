"""Length against label and margin."""

import numpy as np
import pytest

from selfie.diagnostics.lengths import length_bias


def test_counts_by_hand():
    """Longer chosen in 2 of the 3 unequal pairs; a margin that is the difference itself correlates fully."""
    bias = length_bias([5, 7, 2, 4], [3, 1, 6, 4], [2.0, 6.0, -4.0, 0.0])
    assert bias["longer_chosen"] == pytest.approx(2 / 3)
    assert bias["longer_chosen_ci"][0] < 2 / 3 < bias["longer_chosen_ci"][1]
    assert bias["length_margin_correlation"] == pytest.approx(1)


def test_the_interval_holds_the_true_correlation():
    rng = np.random.default_rng(0)
    difference = rng.integers(-20, 20, 500)
    margin = difference + rng.normal(0, difference.std(), 500)  # a correlation of √½
    bias = length_bias(np.maximum(difference, 0), np.maximum(-difference, 0), margin)
    low, high = bias["length_margin_correlation_ci"]
    assert low < np.sqrt(0.5) < high
    assert high - low < 0.15


@pytest.mark.parametrize(
    ("chosen", "rejected", "margins"),
    [([3, 3, 3, 3], [3, 3, 3, 3], [1.0, 2, 3, 4]), ([1, 2, 3, 4], [1, 1, 1, 1], [1.0] * 4), ([1, 2], [2, 1], None)],
    ids=["no difference", "one margin", "a human's labels"],
)
def test_no_variance_no_correlation(chosen, rejected, margins):
    bias = length_bias(chosen, rejected, margins)
    assert bias["length_margin_correlation"] is None
    assert bias["length_margin_correlation_ci"] is None


def test_equal_lengths_say_nothing():
    assert length_bias([3], [3], None)["longer_chosen"] is None
