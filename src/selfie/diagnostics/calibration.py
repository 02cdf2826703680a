"""Is a pair that the judge calls 80% certain right 80% of the time? Needs a gold annotator."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

BINS = 10  # of width 0.05: the chosen response's probability is never below one half
RESAMPLES = 1000


def share_interval(part: int, whole: int) -> list[float] | None:
    """Wilson's 95% interval of a share; None of nothing."""
    if whole == 0:
        return None
    interval = binomtest(part, whole).proportion_ci(method="wilson")
    return [float(interval.low), float(interval.high)]


def reliability(probabilities: Sequence[float], right: Sequence[bool]) -> list[dict[str, Any]]:
    """The reliability diagram's points (Guo et al., arXiv 1706.04599), one a bin that is not empty.

    Args:
        probabilities: the judge's that chosen is better, in [0.5, 1], one a pair.
        right: whether the gold annotator agrees.

    Returns:
        ``predicted`` (the bin's mean probability), ``right`` (the share that is), ``right_ci`` (95%), ``n``.
    """
    chances, agreed = np.asarray(probabilities, dtype=float), np.asarray(right, dtype=bool)
    bins = _bins(chances)
    return [
        {
            "predicted": float(chances[bins == b].mean()),
            "right": float(agreed[bins == b].mean()),
            "right_ci": share_interval(int(agreed[bins == b].sum()), int((bins == b).sum())),
            "n": int((bins == b).sum()),
        }
        for b in np.unique(bins)
    ]


def calibration_error(probabilities: Sequence[float], right: Sequence[bool]) -> float | None:
    """ECE in [0, 1]: the bins' |share right − mean probability|, weighted by their pairs; None without pairs."""
    return _error(np.asarray(probabilities, dtype=float), np.asarray(right)) if len(probabilities) else None


def calibration_error_by_chance(probabilities: Sequence[float], seed: int) -> float | None:
    """What the ECE of a perfectly calibrated judge with these probabilities stays below in 95% of the cases.

    The ECE of few pairs is never zero; only one above this is a miscalibration (consistency resampling, Bröcker
    and Smith 2007).
    """
    if not len(probabilities):
        return None
    chances, rng = np.asarray(probabilities, dtype=float), np.random.default_rng(seed)
    errors = [_error(chances, rng.random(len(chances)) < chances) for _ in range(RESAMPLES)]
    return float(np.quantile(errors, 0.95))


def _bins(probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.clip((probabilities - 0.5) * 2 * BINS, 0, BINS - 1).astype(int)


def _error(probabilities: NDArray[np.float64], right: ArrayLike) -> float:
    gaps = np.bincount(_bins(probabilities), weights=np.asarray(right, dtype=float) - probabilities)
    return float(np.abs(gaps).sum() / len(probabilities))
