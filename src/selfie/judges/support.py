"""The initial model's support: measured once on its own responses, then a bound for every judge."""

import logging
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from selfie.preference.support import (
    STATISTICS,
    outside_support,
    response_statistics,
    rewards_within_support,
    support_bounds,
)

logger = logging.getLogger(__name__)


def measure_bounds(responses: Dataset, initial_log_probs: np.ndarray, percentile: float) -> dict[str, Any]:
    """Bounds of each statistic in the initial model's own responses.

    Args:
        responses: rows with ``response_ids``, sampled from the initial model.
        initial_log_probs: of each, summed over its tokens.
        percentile: in percent, that lie beyond each bound.

    Returns:
        Statistic → [lowest, highest].
    """
    statistics = response_statistics(responses["response_ids"][:], torch.from_numpy(initial_log_probs))
    return dict(zip(STATISTICS, support_bounds(statistics, percentile).T.tolist(), strict=True))


def beyond_bounds(scored: Dataset, bounds: dict[str, Any]) -> Tensor:
    """Which responses are unlike the initial model's own; boolean, shape [rows].

    Args:
        scored: rows with ``response_ids`` and ``initial_log_prob``.
        bounds: from :func:`measure_bounds`.
    """
    log_probs = torch.tensor(scored["initial_log_prob"][:], dtype=torch.float64)
    limits = torch.tensor([bounds[name] for name in STATISTICS], dtype=torch.float64)
    return outside_support(response_statistics(scored["response_ids"][:], log_probs), limits.T)


def keep_within(rewards: Tensor, scored: Dataset, bounds: dict[str, Any]) -> Tensor:
    """The judge's rewards, with responses outside the support below all that are inside; shape [rows]."""
    outside = beyond_bounds(scored, bounds)
    if outside.any():
        logger.info("%.1f%% of the responses are outside the initial model's support", 100 * outside.double().mean())
    _, prompt = np.unique(scored["prompt_id"][:], return_inverse=True)
    return rewards_within_support(rewards.double(), outside, torch.from_numpy(prompt))
