"""In which arithmetic each stage computes: chosen here, explained in docs/precision.md.

An implicit reward is a small difference of large sums, so that rounding can decide a label. Judge and initial model
are therefore computed alike, in the cheapest arithmetic whose labels are those of float32 (``precision.scoring``).
Training computes policy, reference and noise detector in one arithmetic (``precision.training``), in the same
micro-batch: equal weights give a margin of exactly zero.
"""

import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum

import torch

from selfie.models.checkpoint import Checkpoint, compute_device

logger = logging.getLogger(__name__)
KEPT_ENOUGH = 0.9
SMALL_MODEL = 10_000_000  # weights; below, bf16 saves no time worth having


class Arithmetic(StrEnum):
    """How weights are stored and multiplied. Sums over tokens are float64 in all of them."""

    FLOAT64 = "float64"
    """To check float32 against."""
    FLOAT32 = "float32"
    TF32 = "tf32"
    """float32 weights whose products keep 10 bits of the factors (NVIDIA, from Ampere on)."""
    BFLOAT16 = "bfloat16"
    """Weights and products of 7 bits."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return {"float64": torch.float64, "bfloat16": torch.bfloat16}.get(self.value, torch.float32)

    @contextmanager
    def products(self) -> Iterator[None]:
        """Within it, CUDA multiplies float32 matrices as this arithmetic says."""
        matmul = torch.backends.cuda.matmul
        before = matmul.fp32_precision
        matmul.fp32_precision = "tf32" if self is Arithmetic.TF32 else "ieee"
        try:
            yield
        finally:
            matmul.fp32_precision = before


def sampling_arithmetic(choice: str, checkpoint: Checkpoint) -> Arithmetic:
    """For sampling, ``precision.sampling`` or ``precision.evaluation``: ``auto`` is bf16 where it saves time."""
    if choice != "auto":
        return Arithmetic(choice)
    return Arithmetic.BFLOAT16 if _bf16_saves_time(checkpoint) else Arithmetic.FLOAT32


def scoring_candidates(choice: str, checkpoint: Checkpoint) -> list[Arithmetic]:
    """For scoring, the cheapest first; the last one is float32 unless another one is asked for."""
    if choice != "auto":
        return [Arithmetic(choice)]
    candidates = [Arithmetic.BFLOAT16] if _bf16_saves_time(checkpoint) else []
    if compute_device().type == "cuda" and torch.cuda.get_device_capability() >= (8, 0):
        candidates.append(Arithmetic.TF32)
    return [*candidates, Arithmetic.FLOAT32]


def scoring_arithmetic(choice: str, checkpoint: Checkpoint) -> Arithmetic:
    """For scoring where nothing is measured first: ``auto`` is the cheapest that is finer than bf16."""
    candidates = scoring_candidates(choice, checkpoint)
    return next((one for one in candidates if one is not Arithmetic.BFLOAT16), candidates[0])


def trains_mixed(choice: str, checkpoint: Checkpoint) -> bool:
    """Whether training multiplies in bf16 (autocast) on float32 weights; otherwise all of it is float32."""
    return choice == "mixed" or (choice == "auto" and _bf16_saves_time(checkpoint))


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the device has bf16 products of its own; processors without them emulate bf16, several times slower."""
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return True


def _bf16_saves_time(checkpoint: Checkpoint) -> bool:
    weights = checkpoint.weights()
    return multiplies_bf16(compute_device()) and (weights is None or weights >= SMALL_MODEL)


def report_cast(pairs: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> int:
    """Logs what a policy that was trained in float32 loses in bf16, and warns where that is a tenth of the change.

    Of the weights' change d and what bf16 makes of it, c = bf16(after) − bf16(before): the share that survives,
    ⟨c, d⟩ / ⟨d, d⟩, and the noise over the signal, |c − d| / |d|. Noise alone may be large and harmless, as it points
    nowhere: what it does to the policy is measured on its samples (``sampling_kl``).

    Args:
        pairs: float32 weights before and after the training, tensor by tensor.

    Returns:
        How many numbers are in the tensors that changed.
    """
    changed = squares = kept = noise = 0.0
    for before, after in pairs:
        change = after - before
        cast = after.bfloat16().float() - before.bfloat16().float()
        changed += change.numel() if change.any() else 0
        squares += float(change.square().sum())
        kept += float((change * cast).sum())
        noise += float((cast - change).square().sum())
    kept, noise = (kept / squares, math.sqrt(noise / squares)) if squares else (1.0, 0.0)
    logger.info("bf16 keeps %.0f%% of what was trained and adds noise of %.2f times the change", 100 * kept, noise)
    if kept < KEPT_ENOUGH:
        logger.warning(
            "bf16, in which the policy is sampled, keeps %.0f%% of what was trained: set precision.sampling and "
            "precision.evaluation to float32, or raise the learning rate",
            100 * kept,
        )
    return int(changed)


def store_linear_in_bf16(model: torch.nn.Module) -> None:
    """Half the memory of a frozen model that is computed under bf16 autocast, and the same results to the bit.

    Autocast would cast the weights of linear layers for every product. Embeddings and norms stay in float32, and with
    them the sums between layers; so does a head that is tied to the embeddings.
    """
    embeddings = {id(layer.weight) for layer in model.modules() if isinstance(layer, torch.nn.Embedding)}
    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear) and id(layer.weight) not in embeddings:
            layer.to(torch.bfloat16)
