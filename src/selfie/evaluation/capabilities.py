"""What did alignment cost? A policy's results in capability tests, and their difference from the initial model's."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import bootstrap

from selfie.evaluation.harness import Item

PERPLEXITY = "word_perplexity"


def capability_metrics(
    tests: Mapping[str, Sequence[Item]], initial: Mapping[str, Sequence[Item]] | None, samples: int, seed: int
) -> dict[str, Any]:
    """Each test's metrics with 95% percentile bootstrap intervals over its items.

    Args:
        tests: name → the policy's items; a test without items is left out.
        initial: the same of the initial model; None for the initial model itself.
        samples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        ``TEST_METRIC``, in percent, but perplexity as it is; with ``initial`` the paired difference on the items that
        both have: ``TEST_METRIC_change`` in points, or of perplexity the policy's over the initial model's,
        ``TEST_METRIC_ratio``. Each has its interval as ``…_ci``. ``TEST_items``, their number.
    """
    metrics: dict[str, Any] = {}
    for test, items in tests.items():
        if not items:
            continue
        metrics[f"{test}_items"] = len(items)
        before = {item["item"]: item["metrics"] for item in (initial or {}).get(test, ())}
        for name in items[0]["metrics"]:
            scale, change = (math.exp, "ratio") if name == PERPLEXITY else (_percent, "change")
            counts = [item["metrics"][name] for item in items]
            metrics |= _with_interval(f"{test}_{name}", counts, scale, samples, seed)
            common = [(item["metrics"][name], before[item["item"]][name]) for item in items if item["item"] in before]
            # Both have the same denominator: instructions, or words, of the same item.
            differences = [(ours - theirs, size) for (ours, size), (theirs, _) in common]
            if differences:
                metrics |= _with_interval(f"{test}_{name}_{change}", differences, scale, samples, seed)
    return metrics


def _percent(share: float) -> float:
    return 100 * share


def _with_interval(name: str, counts: Sequence[tuple[float, float]], scale: Any, samples: int, seed: int) -> dict:
    """Σa / Σb of (a, b); items are resampled, each with both of its numbers."""
    numerators, denominators = np.array(counts, dtype=float).T
    value, bounds = numerators.sum() / denominators.sum(), None
    if np.ptp(numerators / denominators) > 0:
        bounds = bootstrap(
            (numerators, denominators),
            lambda a, b, axis: a.sum(axis) / b.sum(axis),
            paired=True,
            vectorized=True,
            n_resamples=samples,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    low, high = bounds or (value, value)
    return {name: scale(value), f"{name}_ci": [scale(low), scale(high)]}
