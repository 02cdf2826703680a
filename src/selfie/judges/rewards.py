"""A judge turns scored responses into rewards; the higher one is preferred."""

import torch
from datasets import Dataset
from torch import Tensor

from selfie.errors import ConfigurationError
from selfie.judges.gold import gold_scorer
from selfie.preference.judgment import implicit_reward


def response_rewards(judge: str, scored: Dataset, beta: float, gold: str | None) -> Tensor:
    """One reward a response, shape [rows].

    ``logit`` is SPA's direct preference judgment. ``gold`` is the upper bound: the annotator that the loop otherwise
    never sees, for comparisons.
    """
    if judge == "gold":
        if gold is None:
            raise ConfigurationError("judging.judge", "the gold judge needs a gold annotator", "set the parameter gold")
        scorer = gold_scorer(gold)
        return torch.tensor([scorer(row["prompt"], row["response"]) for row in scored], dtype=torch.float64)
    policy, initial = (torch.tensor(scored[f"{name}_log_prob"], dtype=torch.float64) for name in ("policy", "initial"))
    return implicit_reward(policy, initial, beta)
