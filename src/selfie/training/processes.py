"""Training by several processes, each with its share of a step's pairs: ``accelerate launch`` starts them.

They are programs of their own, which import neither Kedro nor MLflow, and end with the run, however that ends. The run
waits; it hands over and takes back by files (:mod:`selfie.training.handover`).
"""

import logging
import os
import re
import shlex
import shutil
import sys
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import yaml
from datasets import Dataset

from selfie.config.execution import ExecutionParameters
from selfie.config.training import TrainingParameters
from selfie.errors import ConfigurationError, EngineError, MemoryExhaustedError, UserError
from selfie.execution.local_pool import threads_of_one
from selfie.models.checkpoint import Checkpoint
from selfie.runtime import signals
from selfie.runtime.child_program import ChildProgram
from selfie.training.handover import error_left, hand_over, log_left
from selfie.training.trainer_settings import pairs_a_process

logger = logging.getLogger(__name__)
LAUNCHER, PROGRAM = "accelerate.commands.launch", "selfie.training.launch"
DATA_PARALLEL = Path(__file__).parents[1] / "conf/base/accelerate/ddp.yaml"
SHARDS = DATA_PARALLEL.with_name("fsdp.yaml")
KILLED = re.compile(r"^\s*exitcode\s*: -9\b", re.MULTILINE)  # in torchrun's table of the processes that failed
SECONDS_BETWEEN_LOOKS = 0.1


def train_in_processes(
    execution: ExecutionParameters,
    start: Checkpoint,
    pairs: Dataset,
    parameters: TrainingParameters,
    beta: float,
    iteration: int,
    seed: int,
    workspace: Path,
    precision: str = "auto",
) -> tuple[Checkpoint, list[dict[str, Any]]]:
    """What :func:`selfie.training.train.train` does and returns, by ``execution.training_processes`` processes.

    Raises:
        UserError: what the first process to fail raised, with the file where the log of all of them is.
        MemoryExhaustedError: one was killed.
        EngineError: they could not be started.
    """
    folder = workspace / "processes"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    others = {"beta": beta, "iteration": iteration, "seed": seed, "precision": precision}
    hand_over(folder, start, pairs, parameters, workspace, **others)
    processes = training_processes(execution)
    logger.info("training in %d processes, which are handed %s", processes, folder)
    launcher = _launch(execution, processes, folder)
    try:
        with signals.finish_step_on_sigterm():
            _wait_for(launcher)
        if launcher.process.returncode:
            raise _failure(launcher, processes, folder)
    finally:
        launcher.close()
    return Checkpoint(str(workspace / "policy")), log_left(folder)


def training_processes(execution: ExecutionParameters) -> int:
    """How many there are; ``auto`` is one a GPU, and one without."""
    if execution.training_processes == "auto":
        return max(1, torch.accelerator.device_count())
    return execution.training_processes


def check_processes(execution: ExecutionParameters, name: str, training: TrainingParameters) -> None:
    """Before any work; ``name`` is the training's in the parameters.

    Raises:
        ConfigurationError: its training can't be started like this.
    """
    processes = training_processes(execution)
    if processes == 1 and execution.accelerate_config is None:
        return
    pairs_a_process(training.batch_size, processes, f"{name}.batch_size")
    file, config = _accelerate_config(execution)
    if processes == 1 and config.distributed_type.value == "FSDP":
        problem = f"{file} spreads a training over processes, and there is one"
        remedy = "set it to 2 or more (auto: one a GPU), or execution.accelerate_config to null"
        raise ConfigurationError("parameter execution.training_processes", problem, remedy)
    if training.quantised and config.distributed_type.value == "FSDP":
        problem = "it spreads weights and moments over processes, and bitsandbytes packs whole models"
        raise ConfigurationError(str(file), problem, f"leave out {name}.optimizer and {name}.lora_base")
    if config.num_processes not in (-1, processes):  # -1: the file says none
        problem = f"it is for {config.num_processes} processes, and execution.training_processes is {processes}"
        raise ConfigurationError(str(file), problem, "let both say the same, or take num_processes out of the file")
    here, rest = divmod(processes, config.num_machines)
    if rest:
        problem = f"{processes} processes can't be shared out evenly to its {config.num_machines} machines"
        raise ConfigurationError(str(file), problem, "make execution.training_processes a multiple of num_machines")
    gpus = torch.accelerator.device_count()
    if 0 < gpus < here:
        problem = f"{here} processes need as many GPUs of their own, and there are {gpus}"
        raise ConfigurationError("parameter execution.training_processes", problem, "lower it, or set it to auto")


def trains_in_shards(execution: ExecutionParameters) -> bool:
    """Whether a training's weights lie spread over its processes."""
    return execution.accelerate_config is not None and _accelerate_config(execution)[1].distributed_type.value == "FSDP"


def _accelerate_config(execution: ExecutionParameters) -> tuple[Path, Any]:
    """Accelerate's file, and its own reading of it."""
    from accelerate.commands.config.config_args import load_config_from_file

    file = Path(execution.accelerate_config) if execution.accelerate_config else DATA_PARALLEL
    if not file.is_file():
        remedy = "mend the path, or set it to null for data parallelism"
        raise ConfigurationError("parameter execution.accelerate_config", f"there is no file {file}", remedy)
    try:
        config = load_config_from_file(str(file))
    except Exception as error:  # whatever a file that accelerate does not check leads it into
        problem = f"accelerate can't read it ({type(error).__name__}: {error!s:.300})"
        raise ConfigurationError(
            str(file), problem, f"write it anew: accelerate config --config_file {file}"
        ) from error
    kind = config.distributed_type.value
    if kind == "FSDP":
        _check_shards(file, config.fsdp_config)
    elif not kind.startswith("MULTI_") or kind == "MULTI_CPU":
        problem = f"its distributed_type is {kind}, which the training does not know"
        raise ConfigurationError(str(file), problem, "set it to MULTI_GPU, for processes on a CPU too, or to FSDP")
    return file, config


def _check_shards(file: Path, settings: dict[str, Any]) -> None:
    for name, value in yaml.safe_load(SHARDS.read_text())["fsdp_config"].items():
        if settings.get(name, False) != value:
            problem = f"its {name} is {settings.get(name)}, and the training is made for {value}"
            raise ConfigurationError(str(file), problem, f"set it as {SHARDS} does")


def _launch(execution: ExecutionParameters, processes: int, folder: Path) -> ChildProgram:
    """The command; its log is kept beside the folder."""
    file, config = _accelerate_config(execution)
    arguments = ["--config_file", str(file), "--num_processes", str(processes), "--mixed_precision", "no"]
    if config.main_process_port is None and config.num_machines == 1:
        arguments += ["--main_process_port", "0"]  # one that is free: another training may be at work here
    program = ["-m", PROGRAM, str(folder)]
    if config.num_machines > 1:
        further = shlex.join(["python", "-m", LAUNCHER, *arguments, "--machine_rank", "K", *program])
        logger.info("to be started on each further machine, by its number K: %s", further)
    environment = {
        **os.environ,
        **threads_of_one(processes // config.num_machines),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),  # where this process finds modules, so do they
        "PYTHONSAFEPATH": "1",  # and nowhere else
        "TQDM_DISABLE": "1",  # bars of several processes in one log
    }
    command = (LAUNCHER, *arguments, *program)
    return ChildProgram(*command, environment=environment, log_name="training", log_folder=folder.parent)


def _wait_for(launcher: ChildProgram) -> None:
    """Until all processes have ended. Passes on what the first one logs, and SIGTERM, which torchrun gives to all."""
    asked = False
    while launcher.process.poll() is None:
        if signals.requested() and not asked:
            launcher.process.terminate()
            asked = True
        _pass_on_logs(launcher.connection)
        time.sleep(SECONDS_BETWEEN_LOOKS)
    _pass_on_logs(launcher.connection)


def _pass_on_logs(connection: Connection) -> None:
    with suppress(EOFError, OSError):  # closed by all of them
        while connection.poll():
            _, record = connection.recv()
            theirs = logging.getLogger(record.name)
            if theirs.isEnabledFor(record.levelno):
                theirs.handle(record)


def _failure(launcher: ChildProgram, processes: int, folder: Path) -> UserError:
    how = launcher.how_it_ended()
    log = launcher.save_log()
    if KILLED.search(log.read_text()):
        problem = f"one of its {processes} processes was killed, as happens when memory runs out; the log of all: {log}"
        remedy = "lower batch_tokens or execution.training_processes; the same command goes on from the last checkpoint"
        return MemoryExhaustedError("training", problem, remedy)
    problem = f"its {processes} processes were not started, or ended early: {how}; their log: {log}"
    remedy = "look at the log; the same command goes on from the last checkpoint"
    return error_left(folder, processes, log) or EngineError("training", problem, remedy)
