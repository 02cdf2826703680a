"""From rewards to preference pairs."""

import logging
from collections.abc import Iterator
from itertools import chain, groupby

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from selfie.errors import DataError
from selfie.preference.implicit_reward import best_and_worst, margin_weights, preference_probability
from selfie.storage.shards import Shards, in_shards

logger = logging.getLogger(__name__)


def build_pairs(
    scored: Dataset,
    rewards: Tensor,
    weighting: str = "even",
    outside: Tensor | None = None,
    eligible: Tensor | None = None,
    shards: Shards | None = None,
) -> Dataset:
    """The best and the worst response of each prompt.

    Args:
        scored: rows of responses with ``policy_log_prob``, a prompt's rows together.
        rewards: the judge's, shape [rows].
        weighting: ``even``, or ``margin``: as wide as a pair's margin is beside the others.
        outside: which responses take no part, boolean, shape [rows]; None: all do.
        eligible: which of the others may be chosen, boolean, shape [rows]; None: all may.
        shards: where the pairs are kept until all are there; without, they are made in memory.

    Returns:
        Rows as the trainer takes them (``pair``, ``prompt_ids``, ``chosen_ids``, ``rejected_ids``)
        with the texts, the rewards, the ``margin``
        between them, the ``probability`` that chosen is the better one and the pair's ``weight`` in training. A prompt
        whose samples are all identical, of whose samples fewer than two take part, or where the judge finds none better
        than the worst that may be chosen, gives no pair.

    Raises:
        DataError: no prompt gives a pair.
    """
    rewards = rewards.double()  # from here to the stored columns: in fp32 a close call's margin can turn round
    every = np.fromiter(chain.from_iterable(_best_and_worst(scored, rewards, outside, eligible)), np.int64).reshape(
        -1, 2
    )
    rows = every[every[:, 0] != every[:, 1]]
    if not len(rows):
        problem = "every prompt's samples are identical, outside the initial model's support or cut by the token limit"
        remedy = "raise generation.temperature or generation.max_new_tokens, or lower judging.support_percentile"
        raise DataError("responses", problem, remedy)
    if len(rows) < len(every):
        logger.warning(
            "%d of %d prompts gave no pair: their samples are identical, outside the support or cut by the token limit",
            len(every) - len(rows),
            len(every),
        )
    values = rewards.numpy()[rows]
    margins = values[:, 0] - values[:, 1]
    weights = margin_weights(torch.from_numpy(margins)).numpy() if weighting == "margin" else np.ones_like(margins)

    judged = {
        "chosen_reward": values[:, 0],
        "rejected_reward": values[:, 1],
        "margin": margins,
        "probability": preference_probability(*torch.from_numpy(values).unbind(dim=1)).numpy(),
        "weight": weights,
    }
    return in_shards(shards, lambda part: _table(scored, rows, judged, part), len(rows))


def _table(scored: Dataset, rows: np.ndarray, judged: dict[str, np.ndarray], part: range) -> Dataset:
    """The pairs of ``part``: what was said, from ``scored``, and how it was judged."""
    here = slice(part.start, part.stop)
    chosen, rejected = (scored.select(side)[:] for side in rows[here].T)
    return Dataset.from_dict(
        {
            "pair": list(part),
            **{name: chosen[name] for name in ("iteration", "prompt_id", "prompt", "prompt_ids")},
            "chosen": chosen["response"],
            "rejected": rejected["response"],
            "chosen_ids": chosen["response_ids"],
            "rejected_ids": rejected["response_ids"],
            **{name: column[here] for name, column in judged.items()},
        }
    )


def _best_and_worst(
    scored: Dataset, rewards: Tensor, outside: Tensor | None, eligible: Tensor | None
) -> Iterator[tuple[int, int]]:
    """Each prompt's rows of the highest and the lowest reward; the same row twice where they make no pair."""
    responses = scored.select_columns(["prompt_id", "response_ids"])
    taking_part = torch.ones(len(scored), dtype=torch.bool) if outside is None else ~outside
    may_win = torch.ones(len(scored), dtype=torch.bool) if eligible is None else eligible
    rows = zip(responses, rewards.tolist(), taking_part.tolist(), may_win.tolist(), strict=True)
    for _, group in groupby(enumerate(rows), key=lambda item: item[1][0]["prompt_id"]):
        every = list(group)
        compared = [
            (number, row["response_ids"], reward, win) for number, (row, reward, takes_part, win) in every if takes_part
        ]
        if len(compared) < 2:  # noqa: PLR2004
            yield every[0][0], every[0][0]
            continue
        numbers, samples, values, winners = zip(*compared, strict=True)
        best, worst = best_and_worst(torch.tensor(values, dtype=torch.float64), torch.tensor(winners))
        yield numbers[best], numbers[worst if samples[best] != samples[worst] else best]
