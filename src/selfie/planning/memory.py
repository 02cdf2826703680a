"""Bytes on one device. Pure arithmetic."""

import math
from dataclasses import dataclass, fields, replace

from selfie.planning.hardware import Hardware
from selfie.planning.model_shape import ModelShape
from selfie.planning.work import FROZEN, REFERENCE, TRAINED, Work
from selfie.preference.token_log_probs import KEPT_LOGITS, LOGITS

USABLE = 0.9
"""Of a device's memory: the rest goes to fragments, and vLLM leaves it too."""
MOST_ROWS = 256
"""That vLLM decodes at once, unless it is told otherwise."""
CPU_CACHE_BYTES = 2**30
"""Of vLLM on a CPU: :mod:`selfie.generation.vllm_engine`."""
CPU_PIECES = 1.5
"""Of activations on a CPU: what a batch frees stays with the process, in pieces that fit the next shapes badly."""
BYTES = {"bfloat16": 2, "tf32": 4, "float32": 4, "float64": 8, "mixed": 4}
"""Of a stored weight."""
PACKED = (4 + 8 / 64 + 32 / (64 * 256)) / 8
"""Bytes of a weight in 4 bits: a scale of 8 bits for 64 of them, and one of 32 for 256 scales ("QLoRA", Section 3)."""
SMALL_MOMENTS = 2 * (1 + 4 / 256)
"""Bytes of a weight's two moments in 8 bits: a scale of 32 bits for 256 of them (bitsandbytes)."""
MOST_SHARDS = 2**17


@dataclass(frozen=True)
class Memory:
    """Bytes by what they hold."""

    weights: float = 0.0
    gradients: float = 0.0
    optimizer: float = 0.0
    reference: float = 0.0
    activations: float = 0.0
    cache: float = 0.0
    libraries: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return sum(getattr(self, part.name) for part in fields(self))

    def fits(self, hardware: Hardware) -> bool:
        """Whether a device has that much to use."""
        return self.total <= USABLE * hardware.memory


@dataclass(frozen=True)
class Strategy:
    """A way to train, and what it takes on a device."""

    name: str
    memory: Memory


def memory_of(work: Work | None, shape: ModelShape, hardware: Hardware, devices: int = 1, shards: int = 1) -> Memory:
    """Of a step at its largest.

    Args:
        work: what it computes.
        shape: the model's.
        hardware: of the devices.
        devices: that the run has: a model that does not fit one is sampled and scored on several.
        shards: devices over which a training lies spread.
    """
    if work is None or work.kind == "asking":
        return Memory(libraries=hardware.libraries)
    if work.kind == "training":
        return training_memory(work, shape, hardware, shards=shards)
    group, low = min(devices, fitting_devices(work, shape, hardware)), BYTES[work.arithmetic]
    weights = low * shape.parameters / group
    if work.kind == "scoring":  # one layer's numbers of a batch, and a chunk of logits
        batch = min(work.batch_tokens, work.tokens / work.models)
        layer = low * shape.sides / shape.layers + 16 * shape.width
        logits = 4 * min(LOGITS, batch * shape.vocabulary)
        return Memory(weights, activations=batch * layer + logits, libraries=hardware.libraries)
    rows = sampled_at_once(work, shape, hardware, group, math.ceil(work.rows / work.models))
    length = work.prompt + (work.response if work.engine == "vllm" else work.longest)
    # Logits as they are, as probabilities, and summed up.
    logits, cache = 16 * rows * shape.vocabulary, rows * length * _cached(shape, low) / group
    return Memory(weights, activations=logits, cache=cache, libraries=hardware.libraries)


def trained_weights(shape: ModelShape, lora_rank: int) -> int:
    """All, or two thin matrices beside each one: rank × (inputs + outputs)."""
    return lora_rank * shape.sides if lora_rank else shape.parameters


def training_memory(work: Work, shape: ModelShape, hardware: Hardware, shards: int = 1) -> Memory:
    """Masters, gradients and AdamW's two moments in float32; the reference's matrices in bf16 under autocast.

    Frozen matrices may be in 4 bits, moments in 8, each block with its scale.

    Args:
        work: the training.
        shape: the model's.
        hardware: on a CPU, files of weights that are mapped count too: the reference's, and the initial one with which
            the trained policy is compared at the end.
        shards: devices over which weights, gradients, moments and reference lie spread (FSDP); one layer at a time is
            gathered in whole.
    """
    mixed = work.arithmetic == "mixed"
    low = 2 if mixed else 4
    trained = trained_weights(shape, work.lora_rank)
    copies = low * shape.body if mixed else 0  # that autocast keeps of the matrices
    # Under adapters the weights are frozen, and the reference.
    frozen = (PACKED if work.packed else low) * shape.body + low * (shape.parameters - shape.body)
    weights = frozen + 4 * trained if work.lora_rank else 4 * shape.parameters + copies
    reference = low * shape.body + 4 * (shape.parameters - shape.body) if work.models > 1 else 0
    if hardware.cpu and mixed and reference:
        reference += 4 * shape.body + 4 * shape.parameters
    gathered = 2 * low * shape.body / shape.layers if shards > 1 else 0.0
    return Memory(
        weights / shards + gathered,
        4 * trained / shards,
        _moments(work, shape, trained) / shards,
        reference / shards,
        _activations(work, shape, low) * (CPU_PIECES if hardware.cpu else 1.0),
        libraries=hardware.libraries,
    )


def _moments(work: Work, shape: ModelShape, trained: int) -> float:
    """Two a trained weight. In 8 bits, but those of the embeddings, which transformers keeps in 32."""
    if not work.small_moments:
        return 8.0 * trained
    whole = 0 if work.lora_rank else shape.vocabulary * shape.width
    return SMALL_MOMENTS * (trained - whole) + 8 * whole


def _activations(work: Work, shape: ModelShape, low: int) -> float:
    """What the backward pass needs of the largest micro-batch.

    Of each matrix its input and its output, in the arithmetic of the products; of each of a layer's two norms the sums
    between layers and the normalised ones in float32: 16 bytes a number of the width. Logits, and their gradient.
    """
    layers: float = low * shape.sides + 16 * shape.width * shape.layers
    if work.checkpointing:
        layers = layers / shape.layers + 4 * shape.width * shape.layers
    answered = work.batch * 2 * work.response / (work.prompt + 2 * work.response)
    return work.batch * layers + 2 * 4 * min(answered * shape.vocabulary, KEPT_LOGITS)


def sampled_at_once(work: Work, shape: ModelShape, hardware: Hardware, devices: int, rows: int) -> int:
    """How many of an engine's rows one decoding step has."""
    if work.engine != "vllm":
        return max(1, min(rows, int(work.batch_tokens / (work.prompt + work.longest))))
    low = BYTES[work.arithmetic]
    free = float(CPU_CACHE_BYTES)
    if not hardware.cpu:
        free = devices * (USABLE * hardware.memory - hardware.libraries) - low * shape.parameters
    row = (work.prompt + work.response) * _cached(shape, low)
    return max(1, min(rows, MOST_ROWS, int(free / row) if row else MOST_ROWS))


def _cached(shape: ModelShape, low: int) -> int:
    """Bytes of a token's keys and values."""
    return shape.layers * shape.cache_width * low


def fitting_devices(work: Work, shape: ModelShape, hardware: Hardware) -> int:
    """The fewest devices, a power of two, that hold the weights and leave an eighth of the memory for the rest."""
    needed = BYTES[work.arithmetic] * shape.parameters / ((USABLE - 1 / 8) * hardware.memory)
    return 2 ** max(0, math.ceil(math.log2(needed)))


def strategies(work: Work, shape: ModelShape, hardware: Hardware, devices: int, rank: int) -> list[Strategy]:
    """All weights, or adapters of a rank; in shards, or packed by bitsandbytes; with and without checkpointing."""
    whole = replace(work, lora_rank=0, models=2, passes=TRAINED + REFERENCE, packed=False, small_moments=False)
    adapted = replace(whole, lora_rank=rank, models=1, passes=FROZEN + REFERENCE)
    lora = f"LoRA of rank {rank}"
    ways = [("all weights", whole, 1), (f"all weights, FSDP over {devices}", whole, devices)]
    ways += [("all weights, 8-bit moments", replace(whole, small_moments=True), 1)]
    ways += [(lora, adapted, 1), (f"{lora}, FSDP over {devices}", adapted, devices)]
    ways += [(f"{lora} on 4-bit weights", replace(adapted, packed=True), 1)]
    return [
        Strategy(
            name + ", checkpointing" * checkpointing,
            training_memory(replace(way, checkpointing=checkpointing), shape, hardware, shards),
        )
        for name, way, shards in ways
        if shards > 1 or "FSDP" not in name
        for checkpointing in (False, True)
    ]


def fewest_shards(work: Work, shape: ModelShape, hardware: Hardware) -> int | None:
    """Devices, a power of two, that hold a training with FSDP and checkpointing; None where no number does."""
    shards, smallest = 1, replace(work, checkpointing=True, packed=False, small_moments=False)
    while not training_memory(smallest, shape, hardware, shards).fits(hardware):
        shards *= 2
        if shards > MOST_SHARDS:
            return None
    return shards


def disk_bytes(shape: ModelShape, policies: int, lora_rank: int) -> float:
    """Policies in float32, and two checkpoints of weights and moments: the new one is sealed before the old goes."""
    return 4 * shape.parameters * policies + 2 * 12 * trained_weights(shape, lora_rank)


def row_bytes(prompt: float, response: float) -> float:
    """Of a response on the disk: token ids of 8 bytes and about 4 of text a token, a prompt's text twice, and 100."""
    return 16 * prompt + 12 * response + 100
