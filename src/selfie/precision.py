"""In which arithmetic each stage computes: chosen here, measured in docs/precision.md.

An implicit reward is a small difference of large sums, so that rounding can decide a label. Judge and initial model
are therefore computed alike, in the cheapest arithmetic whose labels are those of float32 (``precision.scoring``).
Training computes policy, reference and noise detector in one arithmetic (``precision.training``), in the same
micro-batch: equal weights give a margin of exactly zero.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

import torch

from selfie.checkpoints import Checkpoint, compute_device

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


def store_linear_in_bf16(model: torch.nn.Module) -> None:
    """Half the memory of a frozen model that is computed under bf16 autocast, and the same results to the bit.

    Autocast would cast the weights of linear layers for every product. Embeddings and norms stay in float32, and with
    them the sums between layers; so does a head that is tied to the embeddings.
    """
    embeddings = {id(layer.weight) for layer in model.modules() if isinstance(layer, torch.nn.Embedding)}
    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear) and id(layer.weight) not in embeddings:
            layer.to(torch.bfloat16)
