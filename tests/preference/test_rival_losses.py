"""cDPO and rDPO, against numbers worked out by hand and against what they are meant to be."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfie.preference.losses import conservative_loss, noise_aware_loss, robust_loss

MARGINS = st.floats(-30, 30)
SMOOTHINGS = st.floats(0, 0.49)


def loss(function, margin: float, smoothing: float) -> float:
    return function(torch.tensor([margin], dtype=torch.float64), torch.tensor([False]), smoothing).item()


def dpo(margin: float) -> float:
    return float(-torch.nn.functional.logsigmoid(torch.tensor(margin, dtype=torch.float64)))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (conservative_loss, 0.8 * math.log(4 / 3) + 0.2 * math.log(4)),
        (robust_loss, (0.8 * math.log(4 / 3) - 0.2 * math.log(4)) / 0.6),
    ],
)
def test_odds_of_three_to_one(function, expected: float):
    """m = ln 3 gives −ln σ(m) = ln(4/3) and −ln σ(−m) = ln 4; α = 0.2.

    cDPO adds the turned label's part, rDPO subtracts it and divides by 1 − 2α = 0.6.
    """
    assert loss(function, math.log(3), 0.2) == pytest.approx(expected)


@pytest.mark.parametrize(("function", "slope"), [(conservative_loss, -0.5 + 0.2), (robust_loss, -0.5 / 0.6)])
def test_gradient_by_hand(function, slope: float):
    """At m = 0 the two parts have slopes −½ and +½: cDPO −½(1 − α) + ½α = −0.3, rDPO [−½(1 − α) − ½α]/(1 − 2α)."""
    margin = torch.zeros(1, requires_grad=True)
    function(margin, torch.tensor([False]), 0.2).sum().backward()
    assert margin.grad.item() == pytest.approx(slope)


@pytest.mark.parametrize("function", [conservative_loss, robust_loss])
@given(margin=MARGINS)
def test_without_noise_they_are_dpo(function, margin: float):
    assert loss(function, margin, 0.0) == pytest.approx(dpo(margin))


@given(MARGINS, SMOOTHINGS)
def test_cdpo_is_every_pair_flagged(margin: float, smoothing: float):
    """cDPO smooths all labels as self-refinement smooths those of flagged pairs."""
    flagged = noise_aware_loss(torch.tensor([margin], dtype=torch.float64), torch.tensor([True]), smoothing)
    assert loss(conservative_loss, margin, smoothing) == pytest.approx(flagged.item())


@given(MARGINS, SMOOTHINGS)
def test_rdpo_is_unbiased(margin: float, smoothing: float):
    """A label turned with probability α turns m: (1 − α)·ℓ(m) + α·ℓ(−m) is the clean label's −ln σ(m)."""
    expected = (1 - smoothing) * loss(robust_loss, margin, smoothing) + smoothing * loss(
        robust_loss, -margin, smoothing
    )
    assert expected == pytest.approx(dpo(margin), rel=1e-6, abs=1e-9)


@given(st.floats(0.01, 0.49))
def test_cdpo_is_biased_and_stops_where_the_label_is_as_sure_as_its_smoothing(smoothing: float):
    """Its minimum is at σ(m) = 1 − α; rDPO has none: its slope stays negative."""
    best = math.log((1 - smoothing) / smoothing)
    for function, stops in ((conservative_loss, True), (robust_loss, False)):
        margin = torch.tensor([best], dtype=torch.float64, requires_grad=True)
        function(margin, torch.tensor([False]), smoothing).sum().backward()
        assert (abs(margin.grad.item()) < 1e-9) == stops


@pytest.mark.parametrize("function", [conservative_loss, robust_loss])
def test_extreme_margins_stay_finite(function):
    losses = function(torch.tensor([1000.0, -1000.0]), torch.tensor([False, True]), 0.1)
    assert losses.isfinite().all()
