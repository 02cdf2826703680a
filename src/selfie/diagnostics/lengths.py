"""Does the label follow the length?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import pearsonr

from selfie.diagnostics.calibration import share_interval

FEWEST_PAIRS = 4  # for an interval of a correlation


def length_bias(chosen: Sequence[int], rejected: Sequence[int], margins: Sequence[float] | None) -> dict[str, Any]:
    """Length against the label and its margin.

    Args:
        chosen: tokens of each pair's chosen response.
        rejected: of its rejected one.
        margins: the judge's; None where a human labelled.

    Returns:
        ``longer_chosen``, the share of pairs of unequal lengths whose longer response is chosen (one half if length
        does not matter); ``length_margin_correlation``, Pearson's between the margin and the difference
        chosen − rejected in tokens. Both with a 95% interval under ``NAME_ci``; None where a variance is zero or pairs
        are too few.
    """
    difference = np.asarray(chosen) - np.asarray(rejected)
    longer, unequal = int((difference > 0).sum()), int((difference != 0).sum())
    bias: dict[str, Any] = {
        "longer_chosen": longer / unequal if unequal else None,
        "longer_chosen_ci": share_interval(longer, unequal),
        "length_margin_correlation": None,
        "length_margin_correlation_ci": None,
    }
    if margins is not None and len(margins) >= FEWEST_PAIRS and np.ptp(difference) > 0 and np.ptp(margins) > 0:
        correlation = pearsonr(difference, margins)
        interval = correlation.confidence_interval()
        bias["length_margin_correlation"] = float(correlation.statistic)
        bias["length_margin_correlation_ci"] = [float(interval.low), float(interval.high)]
    return bias
