"""Small shapes and devices, for numbers that are derived by hand."""

from dataclasses import replace

from selfie.planning.hardware import Hardware, Overheads
from selfie.planning.model_shape import ModelShape

TINY = ModelShape(
    parameters=1000,
    body=800,
    head=100,
    sides=120,
    layers=2,
    width=8,
    attention_width=8,
    cache_width=16,
    vocabulary=10,
)
NO_OVERHEADS = Overheads(0, 0, 0, 0, 0, 0, 0, 0, 0, float("inf"))
DEVICE = Hardware(
    name="device",
    source="the test's",
    memory=100_000,
    speed={"transformers": 1e6, "vllm": 1e6, "scoring": 1e6, "training": 1e6},
    relative={"bfloat16": 1.0, "tf32": 0.5, "float32": 0.25},
    read={"transformers": 1e6, "vllm": 1e6},
    link=1e6,
    network=1e5,
    scoring="tf32",
    libraries=0,
    overheads=NO_OVERHEADS,
)


def of_memory(size: float) -> Hardware:
    """The same device with another memory."""
    return replace(DEVICE, memory=size)
