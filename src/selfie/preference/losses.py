"""The noise-aware preference loss: label smoothing of the pairs that the detector flags ("self-refinement").

SPA (arXiv 2406.04412), Section 4.3. With no pair flagged, or α = 0, this is the DPO loss (arXiv 2305.18290, Eq. 7).
"""

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor


class Loss(Protocol):
    """A preference loss, called without names of arguments."""

    def __call__(self, margin: Tensor, flagged: Tensor, label_smoothing: float, /) -> Tensor:
        """The loss of each pair, shape [pairs].

        Args:
            margin: m of the policy in training, shape [pairs]; gradients flow through it.
            flagged: z, boolean, shape [pairs]: the pairs that the noise detector takes for mislabelled.
            label_smoothing: α, the parameter of that name.
        """
        ...


def dpo_margin(
    chosen_log_prob: Tensor,
    rejected_log_prob: Tensor,
    reference_chosen_log_prob: Tensor,
    reference_rejected_log_prob: Tensor,
    beta: float,
) -> Tensor:
    """M = β·[(log π(y_w) − log π_ref(y_w)) − (log π(y_l) − log π_ref(y_l))] for summed log-probs, shape [pairs]."""
    return beta * ((chosen_log_prob - reference_chosen_log_prob) - (rejected_log_prob - reference_rejected_log_prob))


def noise_aware_loss(margin: Tensor, flagged: Tensor, label_smoothing: float) -> Tensor:
    """−(1 − α·z)·log σ(m) − α·z·log σ(−m) per pair, where z = 1 for a flagged pair.

    Args:
        margin: m of the policy in training, shape [pairs]; gradients flow through it.
        flagged: z, boolean, shape [pairs].
        label_smoothing: α, the coefficient for pairs flagged as noisy, in [0, 1] (the paper: 0.1).

    Returns:
        The loss of each pair in nats, shape [pairs].
    """
    smoothing = label_smoothing * flagged.to(margin.dtype)
    return -(1 - smoothing) * F.logsigmoid(margin) - smoothing * F.logsigmoid(-margin)


def conservative_loss(margin: Tensor, flagged: Tensor, label_smoothing: float) -> Tensor:
    """cDPO: every label is wrong with probability α: −(1 − α)·log σ(m) − α·log σ(−m), whatever is flagged.

    Shape [pairs]. Mitchell, "A note on DPO with noisy preferences" (2023); DPO's label smoothing.
    """
    return -(1 - label_smoothing) * F.logsigmoid(margin) - label_smoothing * F.logsigmoid(-margin)


def robust_loss(margin: Tensor, flagged: Tensor, label_smoothing: float) -> Tensor:
    """rDPO: an unbiased estimate of the clean labels' loss, [−(1 − α)·log σ(m) + α·log σ(−m)] / (1 − 2α).

    Shape [pairs], whatever is flagged; α < 1/2. Chowdhury et al., "Provably Robust DPO" (arXiv 2403.00409).
    """
    biased = -(1 - label_smoothing) * F.logsigmoid(margin) + label_smoothing * F.logsigmoid(-margin)
    return biased / (1 - 2 * label_smoothing)


LOSSES: dict[str, Loss] = {
    "noise_aware": noise_aware_loss,
    "conservative": conservative_loss,
    "robust": robust_loss,
}


def chosen_nll(chosen_log_prob: Tensor, mean_tokens: float) -> Tensor:
    """−log π(y_w|x) / L̄ of each chosen response, in nats, shape [pairs].

    Beside a preference loss it keeps the chosen responses likely (RPO, arXiv 2404.19733): the margin alone lets chosen
    and rejected fall together, and what rises instead has other lengths. RPO divides by a response's own length, so
    that a token of a short response weighs more; the mean length L̄ of all chosen ones weighs every token alike.

    Args:
        chosen_log_prob: summed over the response's tokens, shape [pairs].
        mean_tokens: L̄, of the whole training set.
    """
    return -chosen_log_prob / mean_tokens
