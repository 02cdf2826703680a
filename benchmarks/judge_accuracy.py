"""How often does a judge prefer the better one of two responses to a prompt?"""

from collections.abc import Sequence
from itertools import groupby, permutations
from typing import Any

import numpy as np

RESAMPLES = 9999


def accuracy(
    prompts: Sequence[str] | np.ndarray, rewards: np.ndarray, scores: Sequence[float] | np.ndarray
) -> dict[str, Any]:
    """Over every two responses to one prompt whose scores differ.

    Args:
        prompts: the prompt of each response, a prompt's responses together.
        rewards: the judge's, shape [responses].
        scores: the gold annotator's of each response.

    Returns:
        ``accuracy`` with its 95% interval ``ci`` (bootstrap over prompts), None where nothing differs, and
        ``compared``, how many pairs.
    """
    by_prompt = []
    for _, group in groupby(range(len(prompts)), key=lambda i: prompts[i]):
        pairs = [(one, two) for one, two in permutations(group, 2) if scores[one] > scores[two]]
        by_prompt.append((sum(rewards[one] > rewards[two] for one, two in pairs), len(pairs)))
    right, compared = (counts := np.array(by_prompt).reshape(-1, 2)).sum(axis=0)
    if not compared:
        return {"accuracy": None, "ci": None, "compared": 0}
    counts = counts[counts[:, 1] > 0]
    drawn = np.random.default_rng(0).integers(len(counts), size=(RESAMPLES, len(counts)))
    rights, among = counts[drawn].sum(axis=1).T
    bounds = np.quantile(rights / among, [0.025, 0.975])
    return {"accuracy": float(right / compared), "ci": [float(bound) for bound in bounds], "compared": int(compared)}
