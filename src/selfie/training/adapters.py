"""Low-rank adapters (LoRA, arXiv 2106.09685): a training's, merged before any other stage sees its policy."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
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
    before = {name: weight.clone() for name, weight in _matrices(model.get_base_model()).items()}
    merged_model = model.merge_and_unload()
    _check(before, _matrices(merged_model))
    return merged_model


def _matrices(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The weights that adapters are meant for, by their names without them."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    outside = {id(layer.weight) for layer in ends if layer is not None}
    return {
        name.replace(".base_layer", ""): weight.detach()
        for name, weight in model.named_parameters()
        if weight.ndim > 1 and id(weight) not in outside and "lora_" not in name
    }


def _check(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> None:
    adapted = squares = kept = 0.0
    for name, weight in before.items():
        change = after[name] - weight
        adapted += change.numel() if change.any() else 0
        squares += float(change.square().sum())
        kept += float((change * (after[name].bfloat16().float() - weight.bfloat16().float())).sum())
    adapted, kept = adapted / sum(map(torch.numel, before.values())), kept / squares if squares else 0.0
    logger.info("adapters changed %.0f%% of the weights of the layers; bf16 keeps %.0f%%", 100 * adapted, 100 * kept)
    if adapted < ENOUGH:
        logger.warning("%.0f%% of the layers' weights have no adapters, such as experts", 100 * (1 - adapted))
    if kept < ENOUGH:
        logger.warning(
            "bf16, in which the policy is sampled and judged, keeps %.0f%% of what was trained: "
            "raise the learning rate, or train all weights (lora_rank: 0)",
            100 * kept,
        )
