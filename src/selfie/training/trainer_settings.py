"""What every training tells its TRL trainer, whatever the loss."""

import importlib.util
import math
from pathlib import Path
from typing import Any, TypeVar

from accelerate import PartialState
from transformers import TrainingArguments

from selfie.config.training import OptimizerParameters, TrainingParameters
from selfie.errors import ConfigurationError
from selfie.models.checkpoint import compute_device

Arguments = TypeVar("Arguments", bound=TrainingArguments)


def on_one_device(arguments: Arguments) -> Arguments:
    """A process trains on one device, the first that it sees; the others stay visible, for vLLM.

    transformers would copy the model to all of them (``nn.DataParallel``), and TRL raises where it would. It sets
    ``_n_gpu`` itself for a model that is spread over devices. Several devices take several processes.
    """
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def check_libraries(name: str, parameters: TrainingParameters) -> None:
    """Before any work; ``name`` is the training's in the parameters.

    Raises:
        ConfigurationError: it wants bitsandbytes, which is not there, or a GPU.
    """
    if not parameters.quantised:
        return
    which = "lora_base" if parameters.lora_base == "nf4" else "optimizer"
    if importlib.util.find_spec("bitsandbytes") is None:
        problem = f"{getattr(parameters, which)} is bitsandbytes' work, which is not installed"
        remedy = "make quantised (or pip install 'selfie[quantised]'), or leave it out"
        raise ConfigurationError(f"{name}.{which}", problem, remedy)
    if parameters.optimizer.startswith("paged") and compute_device().type != "cuda":
        problem = "a paged optimizer moves memory between a GPU and the CPU, and there is no GPU"
        raise ConfigurationError(f"{name}.optimizer", problem, "set it to adamw_8bit")


def pairs_a_process(batch_size: int, processes: int, parameter: str = "training.batch_size") -> int:
    """Pairs of each process in an optimiser step.

    Raises:
        ConfigurationError: they can't be shared out evenly.
    """
    pairs_per_process, rest = divmod(batch_size, processes)
    if rest:
        problem = f"{batch_size} pairs can't be shared out evenly to {processes} processes"
        raise ConfigurationError(parameter, problem, "make it a multiple of their number")
    return pairs_per_process


def trainer_settings(
    parameters: OptimizerParameters, seed: int, workspace: Path, mixed: bool, micro_batch_size: int | None = None
) -> dict[str, Any]:
    """Arguments of TRL's ``DPOConfig`` and ``RewardConfig``.

    With ``mixed`` matrix products are bf16's (autocast). Without ``micro_batch_size`` (pairs of one forward pass at
    most), a process gets all its pairs of a step at once.

    Raises:
        ConfigurationError: the batch can't be shared out evenly to the processes.
    """
    on_cpu = compute_device().type == "cpu"
    processes = PartialState(cpu=on_cpu).num_processes
    pairs_per_process = pairs_a_process(parameters.batch_size, processes)
    micro_batch_size = math.gcd(micro_batch_size or pairs_per_process, pairs_per_process)
    return {
        "output_dir": str(workspace),
        "learning_rate": parameters.learning_rate,
        "num_train_epochs": parameters.epochs,
        "per_device_train_batch_size": micro_batch_size,
        "gradient_accumulation_steps": pairs_per_process // micro_batch_size,
        "lr_scheduler_type": "cosine",
        "warmup_steps": parameters.learning_rate_warmup,
        "weight_decay": parameters.weight_decay,
        "max_grad_norm": parameters.max_grad_norm,
        "bf16": mixed,
        "use_cpu": on_cpu,
        "dataloader_pin_memory": not on_cpu,
        "gradient_checkpointing": False,
        "max_length": None,
        "logging_strategy": "no",
        "report_to": [],
        "seed": seed % 2**32,
    }
