"""Calibration against labels that are known to be right or wrong."""

import numpy as np
import pytest

from selfie.diagnostics.calibration import calibration_error, calibration_error_by_chance, reliability, share_interval


def test_points_and_error_by_hand():
    """Four pairs at 0.6 (three right), one at 1.0 (wrong): gaps 0.15 and 1, weights 4/5 and 1/5."""
    chances, right = [0.6, 0.6, 0.6, 0.6, 1.0], [True, True, True, False, False]
    first, last = reliability(chances, right)
    assert (first["predicted"], first["right"], first["n"]) == (pytest.approx(0.6), 0.75, 4)
    assert (last["predicted"], last["right"], last["n"]) == (1.0, 0.0, 1)
    assert calibration_error(chances, right) == pytest.approx(0.8 * 0.15 + 0.2 * 1)


def test_wilson_interval():
    """Newcombe 1998, Table I: 81 of 263 gives [0.2553, 0.3662]."""
    assert share_interval(81, 263) == pytest.approx([0.2553, 0.3662], abs=1e-4)
    assert share_interval(0, 0) is None


def test_a_calibrated_judge_stays_below_chance_and_an_overconfident_one_does_not():
    rng = np.random.default_rng(0)
    chances = rng.uniform(0.5, 1, 400)
    below = 0
    for _ in range(40):
        right = rng.random(400) < chances
        below += calibration_error(chances, right) < calibration_error_by_chance(chances, seed=1)
    assert below >= 34  # 38 expected
    coin = rng.random(400) < 0.5
    assert calibration_error(chances, coin) > 2 * calibration_error_by_chance(chances, seed=1)


def test_nothing_to_measure_is_none():
    assert calibration_error([], []) is None
    assert calibration_error_by_chance([], seed=0) is None
    assert reliability([], []) == []
