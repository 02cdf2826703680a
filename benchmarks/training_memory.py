"""How much memory each way to train takes, beside what ``selfie plan`` says of it.

``python -m benchmarks.training_memory MODEL`` trains on random pairs of the same lengths, each way in programs of its
own, writes ``docs/results/training_memory.json`` and prints a table. ``MODEL`` is a folder, such as
``data/06_models/smollm2-135m-instruct`` after ``make demo``. On a GPU the figure of one process is the CUDA allocator's
peak, else the largest resident set of a process, which counts the weights' mapped files.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import torch
from datasets import Dataset

from selfie.config.execution import ExecutionParameters
from selfie.config.training import TrainingParameters
from selfie.models.checkpoint import Checkpoint, compute_device
from selfie.models.precision import trains_mixed
from selfie.planning.hardware import GIB
from selfie.planning.memory import training_memory
from selfie.planning.model_shape import model_shape, read_config
from selfie.planning.this_machine import this_machine
from selfie.planning.work import Work
from selfie.reporting.tables import markdown_table
from selfie.training.processes import SHARDS, train_in_processes
from selfie.training.train import train

RESULT = Path("docs/results/training_memory.json")
PROMPT, RESPONSE, PAIRS, BATCH = 64, 320, 4, 2
WAYS: dict[str, tuple[dict[str, Any], int]] = {
    "all weights": ({}, 1),
    "all weights, checkpointing": ({"gradient_checkpointing": True}, 1),
    "all weights, 8-bit moments": ({"optimizer": "adamw_8bit"}, 1),
    "all weights, 8-bit moments, checkpointing": ({"optimizer": "adamw_8bit", "gradient_checkpointing": True}, 1),
    "LoRA of rank 16": ({"lora_rank": 16}, 1),
    "LoRA of rank 16, checkpointing": ({"lora_rank": 16, "gradient_checkpointing": True}, 1),
    "LoRA of rank 16 on 4-bit weights, checkpointing": (
        {"lora_rank": 16, "lora_base": "nf4", "gradient_checkpointing": True},
        1,
    ),
    "all weights, FSDP over 2": ({}, 2),
    "all weights, FSDP over 2, checkpointing": ({"gradient_checkpointing": True}, 2),
}


@click.command()
@click.argument("model", type=click.Path(exists=True, file_okay=False))
@click.option("--way", type=click.Choice(list(WAYS)), help="This one alone, in this process.")
def main(model: str, way: str | None) -> None:
    """Trains every way in a process of its own."""
    if way:
        click.echo(json.dumps(measured(Checkpoint(model), *WAYS[way])))
        return
    results = {}
    for name, (changes, processes) in WAYS.items():
        command = [sys.executable, "-m", "benchmarks.training_memory", model, "--way", name]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        results[name] = json.loads(done.stdout.splitlines()[-1]) | planned(Checkpoint(model), changes, processes)
    RESULT.write_text(json.dumps(results, indent=1) + "\n")
    click.echo(table(results))


def parameters_of(changes: dict[str, Any]) -> TrainingParameters:
    """Every micro-batch is one pair."""
    plain = {"learning_rate": 1e-5, "epochs": 1, "batch_size": BATCH, "batch_tokens": PROMPT + 2 * RESPONSE}
    schedule = {"learning_rate_warmup": 0.1, "weight_decay": 0.0, "max_grad_norm": 1.0, "checkpoint_steps": 1000}
    method = {"loss": "noise_aware", "label_smoothing": 0.1, "noise_percentile": 10.0, "extrapolation": [0.5]}
    detector = {"detector_window": 32, "detector_warmup": 0.0}
    return TrainingParameters.model_validate(plain | schedule | method | detector | changes)


def measured(model: Checkpoint, changes: dict[str, Any], processes: int) -> dict[str, float]:
    """Of one training: ``peak_gib``, of the largest of its processes, and ``seconds``."""
    draw = random.Random(0)
    vocabulary = len(model.load_tokenizer())
    columns: dict[str, list[Any]] = {"pair": list(range(PAIRS)), "iteration": [1] * PAIRS}
    for name, length in (("prompt_ids", PROMPT), ("chosen_ids", RESPONSE), ("rejected_ids", RESPONSE)):
        columns[name] = [[draw.randrange(vocabulary) for _ in range(length)] for _ in range(PAIRS)]
    arguments = (model, Dataset.from_dict(columns), parameters_of(changes), 0.1)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        settings: dict[str, Any] = {"iteration": 1, "seed": 0, "workspace": Path(folder)}
        if processes == 1:
            train(*arguments, **settings)
        else:
            several = ExecutionParameters(training_processes=processes, accelerate_config=str(SHARDS))
            train_in_processes(several, *arguments, **settings)
    who = resource.RUSAGE_SELF if processes == 1 else resource.RUSAGE_CHILDREN
    peak = resource.getrusage(who).ru_maxrss * 1024
    if compute_device().type == "cuda" and processes == 1:
        peak = torch.cuda.max_memory_allocated()
    return {"peak_gib": round(peak / GIB, 2), "seconds": round(time.perf_counter() - started, 1)}


def planned(model: Checkpoint, changes: dict[str, Any], processes: int) -> dict[str, float]:
    """What the plan's arithmetic gives for the same training."""
    parameters = parameters_of(changes)
    work = Work(
        "training",
        2 * PAIRS,
        PROMPT,
        RESPONSE,
        "mixed" if trains_mixed("auto", model) else "float32",
        sharing=2,
        models=1 if parameters.lora_rank else 2,
        longest=RESPONSE,
        batch_tokens=parameters.batch_tokens,
        batch_size=BATCH,
        lora_rank=parameters.lora_rank,
        packed=parameters.lora_base == "nf4",
        small_moments=parameters.optimizer != "adamw",
        checkpointing=parameters.gradient_checkpointing,
    )
    memory = training_memory(
        work, model_shape(read_config(model.source), "it"), this_machine(Path("benchmarks/results")), processes
    )
    return {"planned_gib": round(memory.total / GIB, 2)}


def table(results: dict[str, dict[str, float]]) -> str:
    """A row a way."""
    header = ["way to train", "peak, GiB a process", "planned, GiB", "planned / peak", "seconds"]
    rows = [
        [
            name,
            f"{row['peak_gib']:.2f}",
            f"{row['planned_gib']:.2f}",
            f"{row['planned_gib'] / row['peak_gib']:.2f}",
            f"{row['seconds']:.0f}",
        ]
        for name, row in results.items()
    ]
    return markdown_table(header, rows)


if __name__ == "__main__":
    main()
