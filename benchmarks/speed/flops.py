"""How much arithmetic a stage needs, and how much of it the machine can do."""

import time
from itertools import groupby

import torch
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.speed.workload import Measurement, Setting, Workload, stopwatch
from selfie.models.precision import Arithmetic
from selfie.planning import work
from selfie.planning.model_shape import ModelShape, model_shape, read_config

ROWS, SECONDS = 2048, 2.0


def forward_flops(setting: Setting, workload: Workload) -> float:
    """One forward pass with every prompt computed once, no padding, logits at response positions only."""
    tokens = pairs = answered = 0
    for prompt, group in groupby(zip(workload.prompts, workload.responses, strict=True), key=lambda row: row[0]):
        lengths = [len(response) for _, response in group]
        p, answered = len(prompt), answered + sum(lengths)
        tokens += p + sum(lengths)
        pairs += p * (p + 1) // 2 + sum(r * p + r * (r + 1) // 2 for r in lengths)
    return work.forward_flops(shape_of(setting), tokens, answered, pairs)


def shape_of(setting: Setting) -> ModelShape:
    """Of the model that is measured."""
    return model_shape(read_config(setting.model), setting.model)


def matmul_shapes(model: str) -> dict[tuple[int, int], int]:
    """The linear layers' weights, the head's included, and how many there are of each shape."""
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model))
    shapes: dict[tuple[int, int], int] = {}
    for module in empty.modules():
        if isinstance(module, torch.nn.Linear):
            shape = (module.out_features, module.in_features)
            shapes[shape] = shapes.get(shape, 0) + 1
    return shapes


def matmul(setting: Setting, part: str) -> Measurement:
    """FLOP/s of matrix products of the model's shapes with 2,048 rows, in its proportion and the part's arithmetic."""
    arithmetic = setting.scoring_in
    if part == "training":
        arithmetic = Arithmetic.BFLOAT16 if setting.mixed else Arithmetic.FLOAT32
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    flops = needed = 0.0
    with stopwatch() as measured, torch.inference_mode(), arithmetic.products():
        for (rows, columns), count in matmul_shapes(setting.model).items():
            x = torch.randn(ROWS, columns, dtype=arithmetic.dtype, device=device)
            weight = torch.randn(rows, columns, dtype=arithmetic.dtype, device=device)
            work = 2.0 * ROWS * rows * columns
            flops, needed = flops + count * work, needed + count * _seconds(x, weight)
    return measured(ROWS, flops_per_second=flops / needed)


def _seconds(x: torch.Tensor, weight: torch.Tensor) -> float:
    """Of one product: the best of as many rounds as fit."""
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        started = time.perf_counter()
        functional.linear(x, weight)
        if x.is_cuda:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return best
