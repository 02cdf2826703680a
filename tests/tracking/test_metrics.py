"""What reaches MLflow."""

import pytest

from selfie.tracking.metrics import numbers, training_curve
from selfie.tracking.mlflow_hooks import flatten


def test_numbers_are_flat_floats():
    """Intervals become two numbers, what does not apply is left out, and 0 is not nothing."""
    metrics = {"win_rate": 61.5, "win_rate_ci": [50.0, 70.0], "gold_score": None, "n_pairs": 3, "noise_recall": 0.0}
    flat = numbers(metrics)
    assert flat == {
        "win_rate": 61.5,
        "win_rate_ci_low": 50.0,
        "win_rate_ci_high": 70.0,
        "n_pairs": 3,
        "noise_recall": 0,
    }
    assert all(type(value) is float for value in flat.values())


def test_training_curve_by_hand():
    """Step 0: margins 1 and −1 (one of two right), one of two flagged. Step 1: a margin of 0 is not right."""
    log = [
        {"step": 0, "loss": 0.2, "margin": 1.0, "flagged": False},
        {"step": 1, "loss": 0.7, "margin": 0.0, "flagged": False},
        {"step": 0, "loss": 1.0, "margin": -1.0, "flagged": True},
    ]
    curve = training_curve(log)
    assert curve[0] == pytest.approx({"loss": 0.6, "margin": 0.0, "accuracy": 0.5, "flagged": 0.5})
    assert curve[1] == pytest.approx({"loss": 0.7, "margin": 0.0, "accuracy": 0.0, "flagged": 0.0})
    assert set(curve) == {0, 1}


def test_parameters_get_dotted_names():
    assert flatten({"a": 1, "b": {"c": [1, 2], "d": {"e": None}}}) == {"a": 1, "b.c": [1, 2], "b.d.e": None}
