"""The noise detector: its threshold by hand, and the share that it flags."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfie.preference.noise_detection import NoiseDetector


def test_threshold_by_hand():
    """K = 25% of 1, 2, 3, 4, 5: five margins make six gaps, the open ends too; a quarter of six is 1.5, so τ = 1.5.

    With 6 as well there are seven gaps: τ = 0.25·7 = 1.75.
    """
    detector = NoiseDetector(percentile=25, window=10)
    detector.observe(torch.tensor([3.0, 1.0, 5.0, 2.0, 4.0]))
    assert detector.threshold() == pytest.approx(1.5)
    detector.observe(torch.tensor([6.0]))
    assert detector.threshold() == pytest.approx(1.75)


def test_window_forgets():
    """Of −100 … −91 and then 1, 2, 3, 4 a window of four holds the last four alone: τ(25%) = 0.25·5 = 1.25."""
    detector = NoiseDetector(percentile=25, window=4)
    detector.observe(torch.arange(-100.0, -90.0))
    assert detector.threshold() == pytest.approx(-95 + 1.25)
    detector.observe(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert detector.threshold() == pytest.approx(1.25)


@pytest.mark.parametrize(("percentile", "minimum"), [(10, 10), (25, 4), (3, 34), (50, 2), (1, 100)])
def test_nothing_is_flagged_before_the_minimum(percentile: float, minimum: int):
    """100/K pairs, rounded up: one fewer, and not even an absurd margin lies below τ."""
    detector = NoiseDetector(percentile, window=100)
    detector.observe(torch.arange(float(minimum - 1)))
    assert detector.threshold() == -math.inf
    detector.observe(torch.tensor([float(minimum)]))
    assert 0 < detector.threshold() < math.inf


def test_zero_percent_flags_nothing():
    detector = NoiseDetector(percentile=0, window=50)
    detector.observe(torch.randn(200, generator=torch.Generator().manual_seed(0)))
    assert detector.threshold() == -math.inf


@given(
    st.floats(1, 60),
    st.integers(1, 9),
    st.lists(st.floats(-50, 50, width=32), min_size=120, max_size=160, unique=True),
    st.integers(4, 100),
)
def test_share_of_the_window_is_the_percentile(percentile: float, batch: int, stream: list[float], window: int):
    """Of n different margins ⌈(n + 1)·K⌉ − 1 lie below the K-th percentile: K·n within one pair.

    While the window slides over a stream of any shape, in batches of any size.
    """
    detector = NoiseDetector(percentile, window)
    for margins in torch.tensor(stream, dtype=torch.float32).split(batch):
        detector.observe(margins)
        if len(detector.margins) == window >= 100 / percentile:
            threshold = detector.threshold()
            below = sum(margin < threshold for margin in detector.margins)
            assert abs(below - percentile / 100 * window) <= 1


@pytest.mark.parametrize("percentile", [5.0, 10.0, 30.0])
@pytest.mark.parametrize("batch", [1, 8, 32])
def test_flagged_share_is_the_percentile(percentile: float, batch: int):
    """Over 10,000 independent margins, in batches of any size, K% are flagged (within one percentage point).

    With τ of the margins before the batch, as in training.
    """
    stream = torch.randn(10_000, generator=torch.Generator().manual_seed(1))
    detector = NoiseDetector(percentile, window=32)
    flagged = 0
    for margins in stream.split(batch):
        flagged += int((margins < detector.threshold()).sum())
        detector.observe(margins)
    assert 100 * flagged / len(stream) == pytest.approx(percentile, abs=1.0)


def test_observed_margins_carry_no_graph():
    """The window must not keep a step's graph alive."""
    margins = torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    detector = NoiseDetector(percentile=25, window=4)
    detector.observe(margins * 2)
    assert all(isinstance(value, float) for value in detector.margins)


@given(st.lists(st.floats(-50, 50, width=32), min_size=20, max_size=60), st.floats(-100, 100))
def test_flags_do_not_move_with_the_margins(values: list[float], shift: float):
    """The detector ranks: adding a constant to every margin, or rescaling them by four, flags the same pairs."""
    margins = torch.tensor(values, dtype=torch.float64).round(decimals=2)
    flags = []
    for changed in (margins, margins * 4, margins + round(shift)):
        detector = NoiseDetector(percentile=10, window=len(values))
        detector.observe(changed)
        # A pair that lies on τ itself may fall to either side by rounding.
        near = (changed.float() - detector.threshold()).abs() < 1e-3
        flags.append((changed.float() < detector.threshold(), near))
    for other, near in flags[1:]:
        settled = ~(near | flags[0][1])
        assert torch.equal(other[settled], flags[0][0][settled])
