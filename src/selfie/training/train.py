"""One training: from a checkpoint and pairs to the next checkpoint and a log of every pair."""

from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from transformers import set_seed
from trl import DPOConfig

from selfie.checkpoints import Checkpoint
from selfie.memory import free_memory, reuse_memory
from selfie.parameters import TrainingParameters
from selfie.training.adapters import adapters, fitting, merged
from selfie.training.checkpointing import newest_checkpoint
from selfie.training.settings import on_one_device, trainer_settings
from selfie.training.trainer import NoiseAwareTrainer


def train(
    start: Checkpoint,
    pairs: Dataset,
    parameters: TrainingParameters,
    beta: float,
    iteration: int,
    seed: int,
    workspace: Path,
) -> tuple[Checkpoint, list[dict[str, Any]]]:
    """Trains a copy of ``start`` on ``pairs``, with ``start`` as the reference.

    Args:
        start: π_{i-1}.
        pairs: rows as :class:`selfie.training.trainer.NoiseAwareTrainer` takes them.
        parameters: learning rate, batch, α, K, λ …
        beta: β of the loss.
        iteration: i, which picks λ; 0 for seeding.
        seed: of this training (the order of the pairs).
        workspace: a folder for what this very training writes; it goes on from the last checkpoint there.

    Returns:
        The new checkpoint, a folder in ``workspace``, and one record a pair and epoch: ``pair``, ``step``, ``loss``,
        ``margin``, ``detector_margin``, ``flagged``, ``trusted``.
    """
    extrapolation = 0.0
    if parameters.detects_noise and iteration > 0:
        extrapolation = parameters.extrapolation[min(iteration, len(parameters.extrapolation)) - 1]
    config = adapters(parameters)
    reuse_memory()
    set_seed(seed % 2**32)  # adapters begin at random
    with fitting():
        trainer = NoiseAwareTrainer(
            # bf16 weights would swallow steps this small: fp32 masters (or adapters), bf16 autocast.
            model=start.load_model(torch.bfloat16 if config else torch.float32),
            reference=start.load_model(torch.bfloat16) if extrapolation > 0 and not config else None,
            pairs=pairs,
            args=_config(parameters, beta, seed, workspace),
            parameters=parameters,
            extrapolation=extrapolation,
            processing_class=start.load_tokenizer(),
            peft_config=config,
        )
    trainer.go_on_from(newest_checkpoint(workspace))
    folder = workspace / "policy"
    trained: Any = trainer.accelerator.unwrap_model(trainer.model)
    processes = PartialState()
    if processes.is_main_process:
        trained.save_pretrained(workspace / "adapters" if config else folder)
    log = trainer.pair_log
    del trainer, trained
    free_memory()
    if processes.is_main_process:
        if config:
            merged(start, workspace / "adapters").save_pretrained(folder)
        start.load_tokenizer().save_pretrained(folder)
    processes.wait_for_everyone()
    return Checkpoint(str(folder)), log


def _config(parameters: TrainingParameters, beta: float, seed: int, workspace: Path) -> DPOConfig:
    return on_one_device(
        DPOConfig(
            **trainer_settings(parameters, seed, workspace),
            beta=beta,
            precompute_ref_log_probs=True,
            remove_unused_columns=False,
            save_strategy="steps",
            save_steps=parameters.checkpoint_steps,
        )
    )
