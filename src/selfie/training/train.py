"""One training: from a checkpoint and pairs to the next checkpoint and a log of every pair."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from transformers import PreTrainedModel, set_seed
from trl import DPOConfig

from selfie.config.training import TrainingParameters
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import report_cast, store_linear_in_bf16, trains_mixed
from selfie.runtime.memory import free_memory, reuse_memory
from selfie.training.checkpointing import newest_checkpoint
from selfie.training.lora import adapters, fitting, load_frozen, merged
from selfie.training.sharding import ShardedTrainer, check_checkpoint, gathered_weights, in_shards, loading_device
from selfie.training.trainer import NoiseAwareTrainer
from selfie.training.trainer_settings import on_one_device, trainer_settings


def train(
    start: Checkpoint,
    pairs: Dataset,
    parameters: TrainingParameters,
    beta: float,
    iteration: int,
    seed: int,
    workspace: Path,
    precision: str = "auto",
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
        precision: ``mixed`` (float32 weights under bf16 autocast), ``float32``, or ``auto``.

    Returns:
        The new checkpoint, a folder in ``workspace``, and one record a pair and epoch: ``pair``, ``step``, ``loss``,
        ``margin``, ``detector_margin``, ``flagged``, ``trusted``.
    """
    config = adapters(parameters)
    mixed = trains_mixed(precision, start)
    reuse_memory()
    set_seed(seed % 2**32)  # adapters begin at random
    with fitting():
        trainer = (ShardedTrainer if in_shards() else NoiseAwareTrainer)(
            model=_load_policy(start, parameters, mixed),
            reference=None if config else _load_reference(start, mixed),
            pairs=pairs,
            args=_config(parameters, beta, seed, workspace, mixed),
            parameters=parameters,
            extrapolation=_extrapolation(parameters, iteration),
            processing_class=start.load_tokenizer(),
            peft_config=config,
        )
    checkpoint = newest_checkpoint(workspace)
    check_checkpoint(checkpoint)
    trainer.resume_from(checkpoint)
    folder = workspace / "policy"
    trained: Any = trainer.accelerator.unwrap_model(trainer.model)
    weights = gathered_weights(trainer.model)
    processes = PartialState()
    if processes.is_main_process:
        trained.save_pretrained(workspace / "adapters" if config else folder, state_dict=weights)
    log = trainer.pair_log
    del trainer, trained, weights
    free_memory()  # gradients and optimiser go before models are loaded again
    if processes.is_main_process:
        if config:
            merged(start, workspace / "adapters").save_pretrained(folder)
        elif mixed:
            report_cast(_changes(start, Checkpoint(str(folder))))
        start.load_tokenizer().save_pretrained(folder)
    processes.wait_for_everyone()
    return Checkpoint(str(folder)), log


def _extrapolation(parameters: TrainingParameters, iteration: int) -> float:
    """λ of this iteration; 0 where nothing is detected."""
    if not parameters.detects_noise or iteration == 0:
        return 0.0
    return parameters.extrapolation[min(iteration, len(parameters.extrapolation)) - 1]


def _changes(start: Checkpoint, trained: Checkpoint) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Each weight before and after, in float32 on the CPU."""
    before, after = (one.load_model(torch.float32, torch.device("cpu")) for one in (start, trained))
    for weight, new in zip(before.parameters(), after.parameters(), strict=True):
        yield weight.detach(), new.detach()


def _load_policy(start: Checkpoint, parameters: TrainingParameters, mixed: bool) -> PreTrainedModel:
    """What is trained is float32, all weights or the adapters: bf16 would swallow steps this small."""
    if parameters.lora_rank:
        return load_frozen(start, parameters, mixed)
    return start.load_model(torch.float32, loading_device())


def _load_reference(start: Checkpoint, mixed: bool) -> PreTrainedModel:
    if in_shards():  # gathered in bf16 under mixed, all of it
        return start.load_model(torch.bfloat16 if mixed else torch.float32, loading_device())
    reference = start.load_model(torch.float32)
    if mixed:
        store_linear_in_bf16(reference)
    return reference


def _config(parameters: TrainingParameters, beta: float, seed: int, workspace: Path, mixed: bool) -> DPOConfig:
    settings = trainer_settings(parameters, seed, workspace, mixed)
    if parameters.optimizer != "adamw":
        settings["optim"] = parameters.optimizer  # transformers knows bitsandbytes' by the same names
    return on_one_device(
        DPOConfig(
            **settings,
            beta=beta,
            remove_unused_columns=False,
            save_strategy="steps",
            save_steps=parameters.checkpoint_steps,
        )
    )
