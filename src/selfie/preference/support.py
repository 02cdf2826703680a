"""Where may the judge be trusted? Only where the initial model speaks.

The implicit reward compares a policy with the initial model. The human's labels are about the initial model's own
responses, so far from them the reward is a guess, and a policy that learns from it finds responses that it overrates
(over-optimisation of a proxy reward: Gao et al., arXiv 2210.10760). In a loop that judges itself these are repetitive
or ever longer ones. So a response unlike the initial model's own takes no part in any pair.

No feature here belongs to a task: any text has a length, repeats itself more or less, and is more or less likely.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor


def response_statistics(responses: Iterable[Sequence[int]], initial_log_prob: Tensor) -> Tensor:
    """What is compared, shape [responses, 3], float64.

    Args:
        responses: token ids, at least one each; read once.
        initial_log_prob: log π_init(y|x) in nats, summed over the response's tokens, shape [responses].

    Returns:
        The number of tokens; the share of neighbouring token pairs that the response has had before, in [0, 1]; the
        mean log π_init of its tokens in nats.
    """
    found = torch.tensor([(len(ids), _repeated_pairs(ids)) for ids in responses], dtype=torch.float64)
    lengths, repeated = found.unbind(dim=1)
    return torch.stack([lengths, repeated, initial_log_prob.double() / lengths], dim=1)


def _repeated_pairs(ids: Sequence[int]) -> float:
    pairs = list(pairwise(ids))
    return 1 - len(set(pairs)) / len(pairs) if pairs else 0.0


def support_bounds(statistics: Tensor, percentile: float) -> Tensor:
    """The lowest and the highest value of each statistic that count as the initial model's, shape [2, statistics].

    Args:
        statistics: of the initial model's own responses, shape [responses, statistics].
        percentile: in percent, in (0, 50): so many of them lie below the lower bound, and above the upper.
    """
    levels = torch.tensor([percentile / 100, 1 - percentile / 100], dtype=statistics.dtype)
    return torch.quantile(statistics, levels, dim=0)


def outside_support(statistics: Tensor, bounds: Tensor) -> Tensor:
    """Which responses have a statistic beyond its bounds; boolean, shape [responses]."""
    return ((statistics < bounds[0]) | (statistics > bounds[1])).any(dim=1)
