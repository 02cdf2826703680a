"""Is one policy better than another, and do two judges agree? Both over the same instructions."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import permutation_test

from selfie.errors import DataError
from selfie.evaluation.alpaca_files import DRAW, Record
from selfie.evaluation.win_rate import mean_interval

MAX_PERMUTATIONS = 9999
_VERDICTS = (-1, 0, 1)  # output 1, a draw, output 2

Judged = dict[tuple[Any, ...], float]
"""What was compared → the preference."""


def preferences_by(annotations: Sequence[Record], *fields: str) -> Judged:
    """The judged annotations by these fields; rows that are equal in them are told apart by their order."""
    seen: Counter[tuple] = Counter()
    preferences = {}
    for record in annotations:
        key = tuple(record[field] for field in fields)
        if record["preference"] is not None:
            preferences[*key, seen[key]] = record["preference"]
        seen[key] += 1
    return preferences


def compare_win_rates(later: Judged, earlier: Judged, samples: int, seed: int) -> dict[str, Any]:
    """How much a policy's win rate differs from another's, on the instructions on which both were judged.

    The test is a paired permutation test of the mean difference, two-sided: under the null hypothesis the two policies
    could be exchanged on every instruction. It tests the figure that is reported. Wilcoxon's signed-rank test would
    test another one (a pseudo-median), and preferences of 1, 1.5 and 2 tie too often for it; the sign test would
    ignore how clear each preference was.

    Returns:
        ``win_rate_change`` in points, ``win_rate_change_ci`` (95%, percentile bootstrap over instructions),
        ``win_rate_change_p``; all None where no instruction is common.
    """
    common = later.keys() & earlier.keys()
    # In the order of their size: resampling draws positions, and the order of rows must not matter.
    change = np.sort([100 * (later[key] - earlier[key]) for key in common])
    if not len(change):
        return {"win_rate_change": None, "win_rate_change_ci": None, "win_rate_change_p": None}
    return {
        "win_rate_change": float(change.mean()),
        "win_rate_change_ci": list(mean_interval(change.tolist(), samples, seed)),
        "win_rate_change_p": _permutation_p(change, seed),
    }


def agreement(one: Judged, other: Judged, samples: int, seed: int) -> dict[str, Any]:
    """How far two judges agree on which answer wins, beyond chance: Cohen's κ (1960) over three verdicts.

    Preferences count as output 1, draw or output 2, by the side of 1.5 on which they are.

    Returns:
        ``n`` comparisons that both judged; ``agreement``, the share on which they agree; ``kappa``, with
        ``kappa_ci`` (95%, percentile bootstrap over instructions). κ is None where both judges always say the same one
        thing: chance then agrees as well as they do.

    Raises:
        DataError: no comparison was judged by both.
    """
    common = one.keys() & other.keys()
    if not common:
        raise DataError("the two judges", "they judged no answer in common", "annotate the same outputs with both")
    cells = Counter((_verdict(one[key]), _verdict(other[key])) for key in common)
    table = np.array([[cells[row, column] for column in _VERDICTS] for row in _VERDICTS])
    draws = np.random.default_rng(seed).multinomial(len(common), table.ravel() / len(common), size=samples)
    resampled = _kappas(draws.reshape(-1, *table.shape))
    kappa = None if np.isnan(_kappas(table)) else float(_kappas(table))
    return {
        "n": len(common),
        "agreement": float(np.trace(table) / len(common)),
        "kappa": kappa,
        "kappa_ci": None if kappa is None else np.nanpercentile(resampled, [2.5, 97.5]).tolist(),
    }


def _permutation_p(change: np.ndarray, seed: int) -> float:
    """Two-sided; exact up to 13 instructions."""
    if len(change) == 1:
        return 1.0  # scipy wants two; either sign is as far from zero
    test = permutation_test(
        (change,),
        lambda x, axis: x.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=MAX_PERMUTATIONS,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def _verdict(preference: float) -> int:
    return int(np.sign(preference - DRAW))


def _kappas(tables: np.ndarray) -> np.ndarray:
    """κ of confusion tables [..., 3, 3]; NaN where chance alone agrees fully.

    The same as sklearn's `cohen_kappa_score`, which takes one pair of label lists at a time and six milliseconds.
    """
    n = tables.sum((-2, -1))
    agreed = np.trace(tables, axis1=-2, axis2=-1) / n
    chance = (tables.sum(-1) * tables.sum(-2)).sum(-1) / n**2
    return np.divide(agreed - chance, 1 - chance, out=np.full_like(chance, np.nan), where=chance < 1)
