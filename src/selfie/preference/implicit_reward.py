"""Direct preference judgment: which response does the policy itself prefer?

SPA (arXiv 2406.04412), Section 4.2: the implicit reward of DPO, taken against the *initial* model, scores a
response by how much more likely it became since training began.
"""

import torch
from torch import Tensor


def implicit_reward(policy_log_prob: Tensor, initial_log_prob: Tensor, beta: float) -> Tensor:
    """β·[log π(y|x) − log π_init(y|x)], elementwise (DPO, arXiv 2305.18290, Eq. 5, without the partition term).

    Both arguments are **summed** log-probs (nats) of the response's tokens; any common shape.
    """
    return beta * (policy_log_prob - initial_log_prob)


def per_token(reward: Tensor, tokens: Tensor) -> Tensor:
    """The mean reward of a response's tokens, times the mean length, so that margins keep their scale: r·L̄/|y|.

    Shape [responses]. A sum over more tokens is larger in size, whatever they say.

    Args:
        reward: of each response, summed over its tokens.
        tokens: its length |y|; their mean is L̄.
    """
    lengths = tokens.to(reward.dtype)
    return reward * lengths.mean() / lengths


def length_neutral(reward: Tensor, tokens: Tensor, prompt: Tensor) -> Tensor:
    """The reward without what length alone predicts of it: r − s·|y|, shape [responses].

    The slope s is the least-squares one of rewards on lengths among the responses of one prompt, over all prompts; with
    two responses a prompt it makes the margin uncorrelated with the difference in length. So the judge can favour
    neither long responses, as a sum may, nor short ones, as a mean may, whatever the policy has come to like. DICE
    (arXiv 2406.09760) searches such a penalty by length; here it is a projection and has no parameter.

    Args:
        reward: of each response.
        tokens: its length.
        prompt: numbers 0 … of the prompts, one a response.
    """
    lengths = tokens.to(reward.dtype)
    around_mean = [values - _means(values, prompt)[prompt] for values in (reward, lengths)]
    spread = (around_mean[1] ** 2).sum()
    slope = (around_mean[0] * around_mean[1]).sum() / spread if spread > 0 else 0.0
    return reward - slope * lengths


def _means(values: Tensor, group: Tensor) -> Tensor:
    counts = torch.bincount(group)
    return torch.zeros(len(counts), dtype=values.dtype).index_add(0, group, values) / counts.clamp(min=1)


def preference_probability(reward_1: Tensor, reward_2: Tensor) -> Tensor:
    """p(y1 ≻ y2 | x) = σ(r1 − r2): the Bradley–Terry probability that response 1 is preferred."""
    return torch.sigmoid(reward_1 - reward_2)


def margin_weights(margin: Tensor) -> Tensor:
    """m / m̄: each pair's weight in training, shape [pairs], mean 1, for margins m ≥ 0 of chosen over rejected.

    The judge errs most where it hardly prefers one response; such pairs pull less.
    """
    mean = margin.mean()
    return margin / mean if mean > 0 else torch.ones_like(margin)


def best_and_worst(rewards: Tensor, eligible: Tensor | None = None) -> tuple[int, int]:
    """Indices (chosen, rejected) of the highest and the lowest of one prompt's rewards, shape [n ≥ 2].

    With n = 2 this is the paper's judgment. Equal rewards keep the sampled order, so that the pair is always two
    different samples and a re-run gives the same pair.

    Args:
        rewards: of one prompt's responses.
        eligible: which of them may be chosen, boolean, shape [n]; None: all. If none may, or the only one is the worst,
            the two indices are equal.
    """
    order = torch.argsort(rewards, descending=True, stable=True)
    candidates = order if eligible is None else order[eligible[order]]
    worst = int(order[-1])
    return (int(candidates[0]) if len(candidates) else worst), worst
