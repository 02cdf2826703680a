"""Low-rank adapters (LoRA, arXiv 2106.09685): a training's, merged before any other stage sees its policy."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel

from selfie.checkpoints import Checkpoint
from selfie.parameters import TrainingParameters


def adapters(parameters: TrainingParameters) -> LoraConfig | None:
    """On all linear layers but the head, as "QLoRA" (arXiv 2305.14314, Section 4) found it needs; None: all weights."""
    if not parameters.lora_rank:
        return None
    return LoraConfig(
        r=parameters.lora_rank,
        lora_alpha=parameters.lora_alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def merged(start: Checkpoint, folder: Path) -> PreTrainedModel:
    """``start`` with the adapters in ``folder`` added to its weights: in fp32, since bf16 would swallow a part of them.

    On the CPU: an accelerator that has room for the bf16 weights may have none for these.
    """
    model: Any = PeftModel.from_pretrained(start.load_model(torch.float32, torch.device("cpu")), folder)
    return model.merge_and_unload()
