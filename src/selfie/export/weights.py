"""The weights that leave, extrapolated if that is wanted."""

import torch
from transformers import PreTrainedModel

from selfie.errors import ModelError
from selfie.models.checkpoint import Checkpoint

CPU = torch.device("cpu")


def exported_weights(policy: Checkpoint, initial: Checkpoint, extrapolation: float) -> PreTrainedModel:
    """The policy in float32 on the CPU; with ``extrapolation`` above 0, θ_k + ε(θ_k − θ_0)."""
    model = policy.load_model(torch.float32, CPU)
    if extrapolation:
        extrapolate(model, initial.load_model(torch.float32, CPU), extrapolation)
    return model


@torch.no_grad()
def extrapolate(model: PreTrainedModel, initial: PreTrainedModel, strength: float) -> None:
    """θ ← θ + ε(θ − θ_0), in place: ExPO (arXiv 2404.16792).

    Args:
        model: θ, the aligned policy.
        initial: θ_0, the model that its alignment began with.
        strength: ε, above 0.
    """
    start = dict(initial.named_parameters())
    for name, weight in model.named_parameters():
        weight.add_(weight - start[name], alpha=strength)


def check_finite(model: PreTrainedModel, dtype: torch.dtype, where: str, parameter: str) -> None:
    """Raises ModelError where a weight is no number, or too large for ``dtype``."""
    for name, weight in model.named_parameters():
        if not weight.detach().to(dtype).isfinite().all():
            raise ModelError(
                where,
                f"{name} has values that {str(dtype).removeprefix('torch.')} can't hold",
                f"choose another {parameter}, or lower export.extrapolation",
            )
