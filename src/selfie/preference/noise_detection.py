"""The noise detector: which pairs does an extrapolated model think mislabelled?

SPA (arXiv 2406.04412), Section 4.3, "de-coupled noise detection". Where the paper's public code keeps a window of
micro-batch means per process, this keeps per-pair margins and expects them gathered over all processes, so that the
flagged share is K whatever the batch size and the number of processes.
"""

import math
from collections import deque

import numpy as np
from torch import Tensor


class NoiseDetector:
    """τ, the K-th percentile of the most recent detector margins m̃: a pair below it is flagged, z = 1.

    Args:
        percentile: K in percent, in [0, 100) (the paper: 10).
        window: how many of the most recent pairs τ is taken over.

    Of the window's own (different) margins K% lie below τ within one pair, always. A pair still to come lies below it
    with probability K if margins come in no order (hence Weibull's percentile: the usual one, whose ends are the
    lowest and the highest margin, would flag 12.4% at K = 10% of 32); where they rise from step to step, more rarely.

    Nothing is flagged until ``minimum`` pairs were seen: with fewer than 100/K the K-th percentile lies below the
    lowest margin and means nothing.
    """

    def __init__(self, percentile: float, window: int):
        self.percentile = percentile
        self.margins: deque[float] = deque(maxlen=window)
        self.minimum = min(window, math.ceil(100 / percentile)) if percentile > 0 else math.inf

    def observe(self, margins: Tensor) -> None:
        """Adds detector margins, shape [pairs], of all processes to the window."""
        self.margins.extend(margins.detach().float().flatten().tolist())

    def threshold(self) -> float:
        """τ: the K-th percentile of the window, or −∞ while too few pairs were seen."""
        if len(self.margins) < self.minimum:
            return -math.inf
        return float(np.percentile(self.margins, self.percentile, method="weibull"))
