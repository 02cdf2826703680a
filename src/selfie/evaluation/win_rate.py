"""Win rates in percent, with their intervals, from AlpacaEval preferences. The order of rows never matters."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import bootstrap
from sklearn.linear_model import LogisticRegression


def win_rate(preferences: Sequence[float]) -> float:
    """AlpacaEval's win rate in percent: the mean of (preference − 1); a draw (1.5) is half a win."""
    return 100 * (math.fsum(preferences) / len(preferences) - 1)


def win_rate_interval(preferences: Sequence[float], samples: int, seed: int) -> tuple[float, float]:
    """The 95% percentile bootstrap interval over instructions, in percent."""
    return mean_interval([100 * (preference - 1) for preference in preferences], samples, seed)


def mean_interval(values: Sequence[float], samples: int, seed: int) -> tuple[float, float]:
    """The 95% percentile bootstrap interval of the mean."""
    ordered = np.sort(values)  # resampling draws positions
    if ordered[0] == ordered[-1]:
        return float(ordered[0]), float(ordered[0])
    interval = bootstrap(
        (ordered,), np.mean, n_resamples=samples, method="percentile", rng=np.random.default_rng(seed)
    ).confidence_interval
    return float(interval.low), float(interval.high)


def length_controlled_win_rate(
    preferences: Sequence[float], model_lengths: Sequence[int], baseline_lengths: Sequence[int]
) -> float:
    """The win rate, in percent, that would be left between answers of equal length.

    A logistic regression of the preference on tanh of the standardised difference in characters, as in AlpacaEval 2
    (Dubois et al., arXiv 2404.04475, Eq. 2), fitted to this model alone: without the leaderboard's instruction
    difficulties, so an estimate that is not comparable with the leaderboard's figure. sklearn's L2 penalty of 1 holds
    the length coefficient back.
    """
    wins = np.asarray(preferences, dtype=float) - 1
    difference = np.asarray(model_lengths, dtype=float) - np.asarray(baseline_lengths, dtype=float)
    order = np.lexsort([difference, wins])  # the solver's last digits depend on it
    wins, difference = wins[order], difference[order]
    if np.ptp(difference) == 0 or np.ptp(wins) == 0:
        return 100 * float(wins.mean())
    feature = np.tanh(difference / difference.std())[:, None]
    # A preference of 0.7 is 0.7 of a win and 0.3 of a loss.
    model = LogisticRegression().fit(
        np.concatenate([feature, feature]),
        np.repeat([1, 0], len(wins)),
        sample_weight=np.concatenate([wins, 1 - wins]),
    )
    return 100 * float(model.predict_proba([[0.0]])[0, 1])
