"""Roughly how long a run will take, before it starts: counted tokens over what a short matmul probe reaches."""

import time
from pathlib import Path

import torch
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from selfie.config.parameters import Parameters
from selfie.diagnostics.drift import REJUDGED_PAIRS
from selfie.models.checkpoint import compute_device
from selfie.models.precision import multiplies_bf16

PROMPT_TOKENS = 60  # a short instruction in a chat template
PROBE_SIZE = 1024
PROBE_SECONDS = 0.3
# Shares of the probe's speed that the stages reached with SmolLM2-135M on 2 CPU cores.
FORWARD_EFFICIENCY, DECODING_EFFICIENCY = 0.75, 0.15
BACKWARD = 3  # a training step costs three forward passes
FROZEN = 2  # and two where the weights have no gradients, only their inputs
REFERENCE = 1


def estimate_seconds(pipeline: Pipeline, parameters: Parameters, rows: dict[str, int], weights: Path) -> float:
    """A rough estimate, right within a factor of two or three on the machines it was tried on.

    Args:
        pipeline: what will run.
        parameters: the run's.
        rows: numbers of ``evaluation_prompts`` and ``seed_preferences``, where they are known.
        weights: the model's folder or GGUF file, whose size tells the number of its parameters.
    """
    forward, decoded = 0.0, 0.0
    for node in pipeline.nodes:
        node_forward, node_decoded = _tokens(node, parameters, rows)
        forward, decoded = forward + node_forward, decoded + node_decoded
    flops = 2 * _parameter_count(weights)
    speed = probe_flops()
    return flops * (forward / FORWARD_EFFICIENCY + decoded / DECODING_EFFICIENCY) / speed


def _tokens(node: Node, parameters: Parameters, rows: dict[str, int]) -> tuple[float, float]:
    """(tokens of forward passes, decoded tokens) of one node."""
    generation = parameters.generation
    length = PROMPT_TOKENS + generation.max_new_tokens
    namespace = node.namespace or ""
    training = parameters.seeding if namespace == "seeding" else parameters.training
    iteration = int(namespace.removeprefix("iteration_")) if namespace.startswith("iteration_") else 0
    prompts = parameters.prompts_per_iteration[iteration - 1] if iteration else rows.get("seed_preferences", 0)
    responses = prompts * generation.samples_per_prompt
    kind = node.name.rsplit(".", 1)[-1]
    if kind == "generate_responses":
        return 0, responses * generation.max_new_tokens
    if kind == "generate_outputs":
        return 0, rows.get("evaluation_prompts", 0) * parameters.evaluation.max_new_tokens
    if kind == "score_answers":
        return 2 * rows.get("evaluation_prompts", 0) * (PROMPT_TOKENS + parameters.evaluation.max_new_tokens), 0
    scored = {
        "score_responses": 2 * responses,
        "rejudge_pairs": 2 * min(prompts, REJUDGED_PAIRS),
    }
    if kind in scored:
        return scored[kind] * length, 0
    if kind == "train_policy":
        passes = (FROZEN if training.lora_rank else BACKWARD) + REFERENCE
        return 2 * prompts * length * training.epochs * passes, 0
    return 0, 0


def _parameter_count(weights: Path) -> float:
    if weights.suffix == ".gguf":
        return weights.stat().st_size * 8 / 5  # 4-bit weights with their scales
    return sum(file.stat().st_size for file in weights.glob("*.safetensors")) / 4


def probe_flops() -> float:
    """FLOP/s that a square matmul reaches on the compute device, in bf16 where it multiplies that itself."""
    device = compute_device()
    dtype = torch.bfloat16 if multiplies_bf16(device) else torch.float32
    a, b = (torch.randn(PROBE_SIZE, PROBE_SIZE, dtype=dtype, device=device) for _ in range(2))
    (a @ b).sum().item()
    started, rounds = time.perf_counter(), 0
    while time.perf_counter() - started < PROBE_SECONDS:
        (a @ b).sum().item()
        rounds += 1
    return rounds * 2 * PROBE_SIZE**3 / (time.perf_counter() - started)
