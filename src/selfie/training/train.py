"""One training: from a checkpoint and pairs to the next checkpoint and a log of every pair."""

import gc
import math
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from trl import DPOConfig

from selfie.checkpoints import Checkpoint, compute_device
from selfie.errors import ConfigurationError
from selfie.parameters import TrainingParameters
from selfie.training.checkpointing import newest_checkpoint
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
    trainer = NoiseAwareTrainer(
        # bf16 weights would swallow steps this small: fp32 masters, bf16 autocast.
        model=start.load_model(torch.float32),
        reference=start.load_model(torch.bfloat16) if extrapolation > 0 else None,
        pairs=pairs,
        args=_config(parameters, beta, seed, workspace),
        parameters=parameters,
        extrapolation=extrapolation,
        processing_class=start.load_tokenizer(),
    )
    trainer.go_on_from(newest_checkpoint(workspace))
    folder = workspace / "policy"
    trained: Any = trainer.accelerator.unwrap_model(trainer.model)
    trained.save_pretrained(folder)
    start.load_tokenizer().save_pretrained(folder)
    log = trainer.pair_log
    del trainer, trained
    gc.collect()
    return Checkpoint(str(folder)), log


def _config(parameters: TrainingParameters, beta: float, seed: int, workspace: Path) -> DPOConfig:
    on_cpu = compute_device().type == "cpu"
    processes = PartialState(cpu=on_cpu).num_processes
    pairs_per_process, rest = divmod(parameters.batch_size, processes)
    if rest:
        raise ConfigurationError(
            "training.batch_size",
            f"{parameters.batch_size} pairs can't be shared out evenly to {processes} processes",
            "make it a multiple of their number",
        )
    micro_batch_size = math.gcd(parameters.micro_batch_size, pairs_per_process)
    return DPOConfig(
        output_dir=str(workspace),
        beta=beta,
        learning_rate=parameters.learning_rate,
        num_train_epochs=parameters.epochs,
        per_device_train_batch_size=micro_batch_size,
        gradient_accumulation_steps=pairs_per_process // micro_batch_size,
        lr_scheduler_type="cosine",
        warmup_steps=parameters.learning_rate_warmup,
        weight_decay=parameters.weight_decay,
        max_grad_norm=parameters.max_grad_norm,
        bf16=True,
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        gradient_checkpointing=False,
        precompute_ref_log_probs=True,
        max_length=None,
        remove_unused_columns=False,
        save_strategy="steps",
        save_steps=parameters.checkpoint_steps,
        logging_strategy="no",
        report_to=[],
        seed=seed % 2**32,
        disable_tqdm=False,
    )
