"""Seconds of a step on given devices, by what they go to. Pure arithmetic."""

import math
from dataclasses import dataclass

from selfie.planning.hardware import Hardware
from selfie.planning.memory import BYTES, fitting_devices, sampled_at_once, trained_weights
from selfie.planning.model_shape import ModelShape
from selfie.planning.work import Work

ARITHMETIC, READING, NETWORK, OVERHEAD, WAITING = "arithmetic", "memory bandwidth", "network", "overhead", "the judge"
GRAPHS = 0.1
"""vLLM launches a decoding step as one graph: this share of what single launches take."""

COPIES = 3
"""``generate`` puts the new token's keys and values beside the old ones in a new tensor: read, written, read."""


@dataclass(frozen=True)
class Cost:
    """Seconds of a step by what they go to, and how many devices work at it."""

    parts: dict[str, float]
    devices: int = 1

    @property
    def seconds(self) -> float:
        """All parts, one after the other."""
        return sum(self.parts.values())


def cost_of(work: Work | None, shape: ModelShape, hardware: Hardware, devices: int = 1, sharded: bool = False) -> Cost:
    """What a step takes.

    Args:
        work: what it computes; None where no model is involved.
        shape: the model's.
        hardware: of the devices.
        devices: that the run has. Responses are shared out to all of them, unless the step works alone; a training's
            pairs to as many as divide its batch.
        sharded: whether a training's weights lie spread over the devices (FSDP).
    """
    extra = hardware.overheads
    if work is None:
        return Cost({OVERHEAD: extra.step})
    if work.kind == "asking":
        return Cost({WAITING: work.rows * work.pace, OVERHEAD: extra.step})
    used, parts = 1 if work.alone else devices, dict[str, float]()
    weights = BYTES[work.arithmetic] * shape.parameters
    overhead = extra.step + work.models * (extra.load + weights / extra.disk)
    if work.kind == "sampling":
        used, parts = _decoding(work, shape, hardware, used)
        overhead += parts.pop(OVERHEAD) + extra.sampled * work.rows / used
        overhead += extra.engine * work.models if work.engine == "vllm" else 0.0
    elif work.kind == "scoring":
        parts = {ARITHMETIC: work.flops(shape) / used / hardware.reach("scoring", work.arithmetic)}
        overhead += extra.scored * work.rows / used
    else:
        used = math.gcd(work.batch_size, used)
        parts = _training(work, shape, hardware, used, sharded)
        overhead += extra.optimizer_step * work.steps + extra.trained * work.rows / used
        overhead += 4 * shape.parameters / extra.disk  # the policy is saved
    return Cost({**parts, OVERHEAD: overhead}, used)


def _decoding(work: Work, shape: ModelShape, hardware: Hardware, devices: int) -> tuple[int, dict[str, float]]:
    """A decoding step computes one token of every row, and reads all weights and the rows' keys and values for it.

    A model that does not fit a device is spread over the fewest that hold it, as if they were one.
    """
    group = min(fitting_devices(work, shape, hardware), devices)
    used = devices // group * group
    rows = math.ceil(work.rows / work.models * group / used)
    at_once = sampled_at_once(work, shape, hardware, group, rows)
    # vLLM takes a new row for each that ends; `generate` goes on until a batch's last row has ended.
    steps: float = math.ceil(rows / at_once) * work.longest
    if work.engine == "vllm":
        steps = max(rows * work.response / at_once, work.response)
    width = BYTES[work.arithmetic]
    cache = at_once * (work.prompt + work.response / 2) * shape.layers * shape.cache_width
    cache *= 1 if work.engine == "vllm" else COPIES
    launch = hardware.overheads.pass_of_layer * (GRAPHS if work.engine == "vllm" else 1.0)
    return used, {
        ARITHMETIC: work.flops(shape) / used / hardware.reach(work.engine, work.arithmetic),
        READING: work.models * steps * width * (shape.parameters + cache) / group / hardware.read[work.engine],
        OVERHEAD: work.models * steps * shape.layers * launch,
    }


def _training(work: Work, shape: ModelShape, hardware: Hardware, devices: int, sharded: bool) -> dict[str, float]:
    """Computing and sending go on side by side: the shorter one is hidden behind the longer one."""
    link = hardware.link if devices <= hardware.devices_a_machine else hardware.network
    computing = work.flops(shape) / devices / hardware.reach("training", work.arithmetic)
    sending = work.steps * step_traffic(work, shape, devices, sharded) / link
    return {ARITHMETIC: computing} if computing >= sending else {NETWORK: sending}


def step_traffic(work: Work, shape: ModelShape, devices: int, sharded: bool) -> float:
    """Bytes that a device sends in an optimiser step.

    Copies (DDP) sum up their float32 gradients: a ring sends each twice. Shards (FSDP) are gathered in bf16 for every
    forward and every backward pass of a micro-batch, the reference's for its forward pass, and gradients are scattered
    after it (Rajbhandari et al., arXiv 1910.02054, Section 7).
    """
    share = (devices - 1) / devices
    gradients = 4 * trained_weights(shape, work.lora_rank)
    if not sharded:
        return share * 2 * gradients
    tokens = work.batch_size / devices * (work.prompt + 2 * work.response)
    micro_batches = math.ceil(tokens / work.batch_tokens)
    return share * micro_batches * ((1 + work.models) * 2 * shape.parameters + gradients)
