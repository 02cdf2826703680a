"""This machine's speeds: those that ``make bench`` measured here, else shares of what a short matmul reaches."""

import json
import statistics
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import torch

from selfie.models.checkpoint import compute_device
from selfie.models.precision import multiplies_bf16
from selfie.planning.cost import OVERHEAD, cost_of
from selfie.planning.hardware import GB, GIB, GPUS, Hardware, Overheads
from selfie.planning.model_shape import ModelShape
from selfie.planning.work import REFERENCE, TRAINED, Work
from selfie.runtime.machine import describe_machine

PROBE_SIZE, PROBE_SECONDS = 1024, 0.3
# Shares of the matmul's speed, and bytes a second, that SmolLM2-135M came to on two CPU cores (benchmarks/results).
UTILISATION = {"transformers": 0.22, "vllm": 0.4, "scoring": 0.68, "training": 0.41}
READING = {"transformers": 3 * GB, "vllm": 18 * GB}
# AVX-512 BF16 and AMX do at least twice as many products of bf16 as of float32 in an instruction. Where bf16 is
# emulated, it takes several times as long (docs/performance.md), and the speeds are float32's.
BF16 = {"bfloat16": 1.0, "tf32": 0.5, "float32": 0.5, "float64": 0.25}
EMULATED = {"bfloat16": 0.2, "tf32": 1.0, "float32": 1.0, "float64": 0.5}
SAMPLES, PAIRS_A_STEP = 4, 8  # benchmarks/speed


def this_machine(results: Path) -> Hardware:
    """The compute device here.

    Args:
        results: the folder that ``make bench`` writes to.
    """
    machine, device = describe_machine(), compute_device()
    file = results / f"{machine['name']}.json"
    if not file.exists():
        return _assumed(machine["name"], device, probe_flops(device))
    document = json.loads(file.read_text())
    limits = [run for name, runs in document["measurements"].items() if name.startswith("limit/") for run in runs]
    peak = max((run["details"]["flops_per_second"] for run in limits), default=None) or probe_flops(device)
    return as_measured(_assumed(machine["name"], device, peak), document, machine["threads"], file.name)


def _assumed(name: str, device: torch.device, peak: float) -> Hardware:
    """A GPU that is known by its name, or shares of the FLOP/s of matrix products."""
    words = name.split("-")
    known = next((GPUS[word] for word in [*words, *map("".join, pairwise(words))] if word in GPUS), None)
    low, on_cpu = multiplies_bf16(device), device.type == "cpu"
    if known is not None and not on_cpu:
        return known
    there = psutil.virtual_memory().total if on_cpu else torch.accelerator.get_memory_info(device)[1]
    return Hardware(
        name=name,
        source=f"assumed: shares of what a matrix product reaches here, {peak / 1e9:.0f} GFLOP/s",
        memory=there,
        speed={stage: share * peak for stage, share in UTILISATION.items()},
        relative=BF16 if low else EMULATED,
        read=READING if on_cpu else dict.fromkeys(READING, peak / 200),
        link=GB,
        network=GB,
        scoring="float32",
        bf16=low,
        libraries=0.8 * GIB,  # as `kedro run` takes before a model is loaded
        cpu=on_cpu,
        overheads=Overheads(engine=30.0),
    )


def probe_flops(device: torch.device) -> float:
    """FLOP/s that a square matmul reaches, in bf16 where the device multiplies that itself, else in float32."""
    dtype = torch.bfloat16 if multiplies_bf16(device) else torch.float32
    a, b = (torch.randn(PROBE_SIZE, PROBE_SIZE, dtype=dtype, device=device) for _ in range(2))
    (a @ b).sum().item()
    started, rounds = time.perf_counter(), 0
    while time.perf_counter() - started < PROBE_SECONDS:
        (a @ b).sum().item()
        rounds += 1
    return rounds * 2 * PROBE_SIZE**3 / (time.perf_counter() - started)


def as_measured(hardware: Hardware, document: dict[str, Any], threads: int, file: str) -> Hardware:
    """The same, but each stage that was measured is as fast as it was there, with threads in proportion.

    Args:
        hardware: the speeds that are assumed without it.
        document: what ``make bench`` wrote.
        threads: torch's now.
        file: what the plan calls the document.
    """
    shape = ModelShape(**document["shape"])
    speed, read = dict(hardware.speed), dict(hardware.read)
    for stage, (work, seconds) in _measurements(document).items():
        parts = cost_of(work, shape, hardware, 1, sharded=False).parts
        expected = sum(spent for part, spent in parts.items() if part != OVERHEAD)  # it was loaded and warm
        faster = expected / seconds * threads / document["machine"]["threads"]
        speed[stage] *= faster
        if stage in read:
            read[stage] *= faster
    measured = ", ".join(_measurements(document))
    return replace(hardware, speed=speed, read=read, source=f"measured ({measured}): benchmarks/results/{file}")


def _measurements(document: dict[str, Any]) -> dict[str, tuple[Work, float]]:
    """Stage → its workload in the benchmark, and the median of its seconds."""
    runs, setting = document["measurements"], document["setting"]
    rows = setting["responses"]
    response = setting["response_tokens"] / rows
    prompt = runs["judging/ours"][0]["tokens"] / rows - response if runs.get("judging/ours") else response
    longest, batch = setting["max_new_tokens"], setting["batch_tokens"]
    engine = "vllm" if "generation/ours_transformers" in runs else "transformers"
    work = Work("scoring", 2 * rows, prompt, response, setting["judging"], sharing=SAMPLES, models=2)
    works = {"scoring": ("judging/ours", work)}
    training = "mixed" if "autocast" in setting["training"] else setting["training"]
    work = Work("training", rows, prompt, response, training, sharing=2, passes=TRAINED + REFERENCE, models=2)
    works["training"] = (
        "training/ours",
        replace(work, longest=longest, batch_tokens=batch // 16, batch_size=PAIRS_A_STEP),
    )
    for name, drawing in (("generation/ours", engine), ("generation/ours_transformers", "transformers")):
        if runs.get(name):
            drawn = statistics.median(run["tokens"] for run in runs[name]) / rows
            work = Work("sampling", rows, prompt, drawn, setting["sampling"], engine=drawing)
            works[drawing] = (name, replace(work, longest=longest, batch_tokens=batch))
    return {
        stage: (work, statistics.median(run["seconds"] for run in runs[name]))
        for stage, (name, work) in works.items()
        if runs.get(name)
    }
