"""The initial model's support: measured on its own responses to an iteration's prompts, a bound for every judge."""

import torch
from datasets import Dataset
from torch import Tensor

from selfie.preference.support import outside_support, response_statistics, support_bounds


def measure_bounds(responses: Dataset, percentile: float) -> Tensor:
    """Bounds of the statistics in the initial model's own responses, shape [2, statistics].

    Args:
        responses: rows with ``response_ids`` and ``initial_log_prob``, sampled from the initial model.
        percentile: in percent, that lie beyond each bound.
    """
    return support_bounds(_statistics(responses), percentile)


def beyond_bounds(scored: Dataset, bounds: Tensor) -> Tensor:
    """Which responses are unlike the initial model's own; boolean, shape [rows].

    Args:
        scored: rows with ``response_ids`` and ``initial_log_prob``.
        bounds: from :func:`measure_bounds`.
    """
    return outside_support(_statistics(scored), bounds)


def _statistics(scored: Dataset) -> Tensor:
    log_probs = torch.tensor(scored["initial_log_prob"][:], dtype=torch.float64)
    return response_statistics(scored["response_ids"], log_probs)  # not [:]: rows stay on the disk
