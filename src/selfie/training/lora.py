"""Low-rank adapters (LoRA, arXiv 2106.09685): a training's, merged before any other stage sees its policy."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import BitsAndBytesConfig, PreTrainedModel

from selfie.config.training import TrainingParameters
from selfie.errors import ConfigurationError
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import report_cast
from selfie.training.sharding import loading_device

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


def load_frozen(start: Checkpoint, parameters: TrainingParameters, mixed: bool) -> PreTrainedModel:
    """The weights beside which adapters are trained, in bf16 or float32, or in 4 bits with products in these."""
    dtype = torch.bfloat16 if mixed else torch.float32
    if parameters.lora_base != "nf4":
        return start.load_model(dtype, loading_device())
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return start.load_model(dtype, quantised=config)


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

    A warning says where bf16 would swallow changes that the training, with adapters beside the weights, has seen in
    full, and where layers have no adapters, as the experts of some models.
    """
    model: Any = PeftModel.from_pretrained(start.load_model(torch.float32, torch.device("cpu")), folder)
    weights = sum(matrix.numel() for matrix in _matrices(model.get_base_model()))
    adapted = report_cast(_merge_layers(model)) / weights
    logger.info("adapters changed %.0f%% of the weights of the layers", 100 * adapted)
    if adapted < ENOUGH:
        logger.warning("%.0f%% of the layers' weights have no adapters, such as experts", 100 * (1 - adapted))
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
