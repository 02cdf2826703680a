"""From rewards to preference pairs."""

import logging
from itertools import groupby
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor

from selfie.errors import DataError
from selfie.preference.judgment import best_and_worst, margin_weights, preference_probability

logger = logging.getLogger(__name__)


def build_pairs(scored: Dataset, rewards: Tensor, weighting: str = "even") -> Dataset:
    """The best and the worst response of each prompt.

    Args:
        scored: rows of responses with ``policy_log_prob``, a prompt's rows together.
        rewards: the judge's, shape [rows].
        weighting: ``even``, or ``margin``: as wide as a pair's margin is beside the others.

    Returns:
        Rows as the trainer takes them (``pair``, ``prompt_ids``, ``chosen_ids``, ``rejected_ids``,
        ``reference_chosen_log_prob``, ``reference_rejected_log_prob``) with the texts, the rewards, the ``margin``
        between them, the ``probability`` that chosen is the better one and the pair's ``weight`` in training. A prompt
        whose samples are all identical gives no pair.

    Raises:
        DataError: no prompt gives a pair.
    """
    rows: list[dict[str, Any]] = []
    identical = 0
    for _, group in groupby(zip(scored, rewards.tolist(), strict=True), key=lambda item: item[0]["prompt_id"]):
        samples, values = zip(*group, strict=True)
        chosen, rejected = best_and_worst(torch.tensor(values))
        if samples[chosen]["response_ids"] != samples[rejected]["response_ids"]:
            rows.append(_pair(len(rows), samples[chosen], samples[rejected], values[chosen], values[rejected]))
        else:
            identical += 1
    if not rows:
        raise DataError("responses", "every prompt's samples are identical", "raise generation.temperature")
    if identical:
        logger.warning("%d prompts gave no pair: their samples are identical", identical)
    margins = torch.tensor([row["margin"] for row in rows], dtype=torch.float64)
    weights = margin_weights(margins) if weighting == "margin" else torch.ones_like(margins)
    return Dataset.from_list(rows).add_column("weight", weights.tolist())


def _pair(number: int, chosen: dict, rejected: dict, chosen_reward: float, rejected_reward: float) -> dict[str, Any]:
    probability = preference_probability(torch.tensor(chosen_reward), torch.tensor(rejected_reward))
    return {
        "pair": number,
        **{name: chosen[name] for name in ("iteration", "prompt_id", "prompt", "prompt_ids")},
        "chosen": chosen["response"],
        "rejected": rejected["response"],
        "chosen_ids": chosen["response_ids"],
        "rejected_ids": rejected["response_ids"],
        "chosen_reward": chosen_reward,
        "rejected_reward": rejected_reward,
        "margin": chosen_reward - rejected_reward,
        "probability": float(probability),
        # Training starts from the policy that spoke, so its log-probs are the reference's.
        "reference_chosen_log_prob": chosen["policy_log_prob"],
        "reference_rejected_log_prob": rejected["policy_log_prob"],
    }
