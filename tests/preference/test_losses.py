"""The loss, against numbers worked out by hand."""

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from selfie.preference.losses import chosen_nll, dpo_margin, noise_aware_loss

MARGINS = st.floats(-30, 30)
SMOOTHINGS = st.floats(0, 1)


def loss(margin: float, flagged: bool, smoothing: float) -> float:
    return noise_aware_loss(torch.tensor([margin], dtype=torch.float64), torch.tensor([flagged]), smoothing).item()


def test_margin_by_hand():
    """0.1·[(−10 − −12) − (−20 − −15)] = 0.1·[2 + 5] = 0.7, and 0.1·[(−3 − −1) − (−4 − −4)] = −0.2."""
    chosen, rejected = torch.tensor([-10.0, -3.0]), torch.tensor([-20.0, -4.0])
    reference_chosen, reference_rejected = torch.tensor([-12.0, -1.0]), torch.tensor([-15.0, -4.0])
    margin = dpo_margin(chosen, rejected, reference_chosen, reference_rejected, 0.1)
    torch.testing.assert_close(margin, torch.tensor([0.7, -0.2]))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("flagged", [False, True])
def test_undecided_policy_pays_one_bit(smoothing: float, flagged: bool):
    """σ(0) = ½, so −(1 − αz)·ln ½ − αz·ln ½ = ln 2 whatever α and z."""
    assert loss(0.0, flagged, smoothing) == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("flagged", "expected"),
    [
        (False, math.log(4 / 3)),
        (True, 0.9 * math.log(4 / 3) + 0.1 * math.log(4)),
    ],
)
def test_odds_of_three_to_one(flagged: bool, expected: float):
    """m = ln 3 gives σ(m) = ¾ and σ(−m) = ¼; with α = 0.1 a flagged pair pays 0.9·ln(4/3) + 0.1·ln 4."""
    assert loss(math.log(3), flagged, 0.1) == pytest.approx(expected)


def test_each_pair_has_its_own_flag():
    """z = (0, 1) and m = ln 3 twice: only the second pair pays for its flag (here all of it, α = 1)."""
    losses = noise_aware_loss(torch.full((2,), math.log(3)), torch.tensor([False, True]), 1.0)
    torch.testing.assert_close(losses, torch.tensor([math.log(4 / 3), math.log(4)]))


def test_gradient_by_hand():
    """∂loss/∂m = σ(m) − (1 − αz): at m = 0 that is −½ for an unflagged pair and −½ + α for a flagged one."""
    margin = torch.zeros(2, requires_grad=True)
    noise_aware_loss(margin, torch.tensor([False, True]), 0.1).sum().backward()
    torch.testing.assert_close(margin.grad, torch.tensor([-0.5, -0.4]))


def test_extreme_margins_stay_finite():
    """−ln σ(±1000) is 0 and 1000; a naive ln(σ) would give inf, and α·inf would poison the batch."""
    losses = noise_aware_loss(torch.tensor([1000.0, -1000.0]), torch.tensor([True, False]), 0.1)
    torch.testing.assert_close(losses, torch.tensor([100.0, 1000.0]))


@given(MARGINS, MARGINS)
def test_an_unflagged_pair_pays_less_the_larger_its_margin(first: float, second: float):
    smaller, larger = sorted((first, second))
    assume(larger - smaller > 1e-6)
    assert loss(larger, False, 0.1) < loss(smaller, False, 0.1)


@given(MARGINS, MARGINS, st.floats(0.01, 0.99))
def test_a_flagged_pair_is_content_at_its_labels_odds(first: float, second: float, smoothing: float):
    """σ(m) = 1 − α is its label: the loss falls up to m = ln((1 − α)/α) and rises beyond."""
    smaller, larger = sorted((first, second))
    turn = math.log((1 - smoothing) / smoothing)
    assume(larger - smaller > 1e-3)
    assume(larger <= turn or smaller >= turn)
    rises = loss(larger, True, smoothing) > loss(smaller, True, smoothing)
    assert rises == (smaller >= turn)


@given(MARGINS, SMOOTHINGS)
def test_a_flag_costs_smoothing_times_the_margin(margin: float, smoothing: float):
    """log σ(m) − log σ(−m) = m: a flag raises a pair's loss the surer the policy is of its label."""
    assert loss(margin, True, smoothing) - loss(margin, False, smoothing) == pytest.approx(smoothing * margin, abs=1e-9)


@given(MARGINS, SMOOTHINGS)
def test_full_smoothing_swaps_the_labels(margin: float, smoothing: float):
    """With α = 1 a flagged pair is its mirror image trusted; an unflagged one is the same for every α."""
    assert loss(margin, True, 1.0) == pytest.approx(loss(-margin, False, smoothing))


@given(MARGINS, st.booleans(), SMOOTHINGS)
def test_never_below_the_entropy_of_its_label(margin: float, flagged: bool, smoothing: float):
    """A cross-entropy with the label (1 − αz, αz) is at least that label's entropy, and never negative."""
    noise = smoothing * flagged
    entropy = -sum(p * math.log(p) for p in (noise, 1 - noise) if p > 0)
    assert loss(margin, flagged, smoothing) >= max(0.0, entropy - 1e-12)


def test_chosen_nll_by_hand():
    """Responses of −6 and −1 nats with 4 tokens on average: 6/4 and 1/4."""
    assert chosen_nll(torch.tensor([-6.0, -1.0]), 4.0).tolist() == [1.5, 0.25]
