"""Low-rank adapters (LoRA, arXiv 2106.09685): a training's, merged before any other stage sees its policy."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel

from selfie.checkpoints import Checkpoint
from selfie.errors import ConfigurationError
from selfie.parameters import TrainingParameters

logger = logging.getLogger(__name__)
ENOUGH = 0.9


def adapters(parameters: TrainingParameters) -> LoraConfig | None:
    """On all linear layers that peft knows, but the head ("QLoRA", arXiv 2305.14314, Section 4); None: all weights."""
    if not parameters.lora_rank:
        return None
    return LoraConfig(
        r=parameters.lora_rank,
        lora_alpha=parameters.lora_alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


@contextmanager
def fitting() -> Iterator[None]:
    """Says of which parameter peft complains where it can't put adapters into a model.

    Raises:
        ConfigurationError: the model is of a family that peft refuses, such as Mamba.
    """
    try:
        yield
    except ValueError as error:
        if "PEFT" not in str(error):
            raise
        raise ConfigurationError(
            "training.lora_rank, seeding.lora_rank", f"this model takes no adapters ({error})", "set them to 0"
        ) from error


def merged(start: Checkpoint, folder: Path) -> PreTrainedModel:
    """``start`` with the adapters in ``folder`` added to its weights, in fp32 and on the CPU.

    The policy is sampled and judged in bf16, which may swallow changes that the training, with adapters beside the
    weights, has seen in full: a warning says so. Also where layers have no adapters, as the experts of some models.
    """
    model: Any = PeftModel.from_pretrained(start.load_model(torch.float32, torch.device("cpu")), folder)
    weights = sum(matrix.numel() for matrix in _matrices(model.get_base_model()))
    _check(_merge_layers(model), weights)
    return model.unload()  # the adapters' shells: what they held is merged


def _merge_layers(model: PeftModel) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Merges one layer at a time and yields its weights before and after: memory holds one copy of one matrix."""
    layers: list[Any] = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        weight = layer.get_base_layer().weight.detach()
        before = weight.clone()
        layer.merge()
        yield before, weight


def _matrices(model: PreTrainedModel) -> list[torch.Tensor]:
    """The weights that adapters are meant for."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    outside = {id(layer.weight) for layer in ends if layer is not None}
    return [
        weight
        for name, weight in model.named_parameters()
        if weight.ndim > 1 and id(weight) not in outside and "lora_" not in name
    ]


def _check(pairs: Iterable[tuple[torch.Tensor, torch.Tensor]], weights: int) -> None:
    """Says how much of a training's change bf16 keeps, and warns where that is little.

    Args:
        pairs: fp32 matrices before and after the training, one pair at a time.
        weights: how many there are in all matrices that could have changed.
    """
    changed = squares = kept = 0.0
    for before, after in pairs:
        change = after - before
        changed += change.numel() if change.any() else 0
        squares += float(change.square().sum())
        kept += float((change * (after.bfloat16().float() - before.bfloat16().float())).sum())
    adapted, kept = changed / weights, kept / squares if squares else 0.0
    logger.info("adapters changed %.0f%% of the weights of the layers; bf16 keeps %.0f%%", 100 * adapted, 100 * kept)
    if adapted < ENOUGH:
        logger.warning("%.0f%% of the layers' weights have no adapters, such as experts", 100 * (1 - adapted))
    if kept < ENOUGH:
        logger.warning(
            "bf16, in which the policy is sampled and judged, keeps %.0f%% of what was trained: "
            "raise the learning rate, or train all weights (lora_rank: 0)",
            100 * kept,
        )
