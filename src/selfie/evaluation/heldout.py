"""Who judges held-out preference pairs right? The only measure of a label's quality where there is no gold annotator.

Always beside the length rule ("the longer answer is better"), and on pairs of similar length too: a judge that only
counts words is right surprisingly often.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import bootstrap

SIMILAR = 0.35  # lengths in characters differ by at most this share of the longer one
SAMPLES = 2000


def audit_judges(pairs: Sequence[dict[str, Any]], margins: dict[str, Sequence[float]], seed: int) -> dict[str, Any]:
    """Accuracy of each judge on all pairs and on those of similar length, with 95% intervals.

    Args:
        pairs: ``prompt_id``, ``chosen``, ``rejected``.
        margins: judge → its reward of chosen minus that of rejected, one a pair; 0 counts as half right.
        seed: of the bootstrap, which is over prompts: pairs of one prompt are not independent.

    Returns:
        ``n_pairs``, ``n_similar`` and ``judges``: name → ``all`` and ``similar``, each ``[accuracy, low, high]`` in
        fractions, None where there is no such pair.
    """
    lengths = np.array([[len(pair["chosen"]), len(pair["rejected"])] for pair in pairs], dtype=float)
    difference = lengths[:, 0] - lengths[:, 1]
    similar = np.abs(difference) <= SIMILAR * lengths.max(axis=1)
    prompts = np.array([pair["prompt_id"] for pair in pairs])
    judges = {"longer": difference, **{name: np.asarray(values) for name, values in margins.items()}}
    return {
        "n_pairs": len(pairs),
        "n_similar": int(similar.sum()),
        "judges": {
            name: {
                "all": _accuracy(values, prompts, seed),
                "similar": _accuracy(values[similar], prompts[similar], seed),
            }
            for name, values in judges.items()
        },
    }


def _accuracy(margins: np.ndarray, prompts: np.ndarray, seed: int) -> list[float] | None:
    if not len(margins):
        return None
    right = (np.sign(margins) + 1) / 2
    groups = [right[prompts == prompt] for prompt in np.unique(prompts)]
    sums, counts = (np.array([function(group) for group in groups]) for function in (np.sum, len))
    share = float(sums.sum() / counts.sum())
    if len(groups) == 1 or np.ptp(right) == 0:
        return [share, share, share]
    interval = bootstrap(
        (sums, counts),
        lambda s, n, axis=-1: s.sum(axis=axis) / n.sum(axis=axis),
        paired=True,
        n_resamples=SAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return [share, float(interval.low), float(interval.high)]
