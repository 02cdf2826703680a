"""How fast and how large devices are: named GPUs by their data sheets and an assumed utilisation."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from selfie.errors import ConfigurationError

GB, GIB, TERA = 1e9, 2**30, 1e12


@dataclass(frozen=True)
class Overheads:
    """Seconds that no arithmetic explains."""

    start: float = 7.0
    """A run's imports."""
    step: float = 0.08
    """A step of the pipeline: hashes, files that are flushed."""
    load: float = 0.3
    """A model, beside reading its weights."""
    engine: float = 0.0
    """vLLM's start, beside ``load``."""
    sampled: float = 0.4e-3
    """A response that is drawn: rendering, laying out, storing. Likewise the others."""
    scored: float = 0.5e-3
    trained: float = 1e-3
    optimizer_step: float = 0.012
    pass_of_layer: float = 1e-3
    """One layer's share of one decoding step's launch."""
    disk: float = 1 * GB
    """Bytes a second."""


@dataclass(frozen=True)
class Hardware:
    """One kind of device, as the stages use it."""

    name: str
    source: str
    """Where its speeds come from."""
    memory: float
    """Bytes."""
    speed: Mapping[str, float]
    """Stage (``transformers`` and ``vllm`` sampling, ``scoring``, ``training``) → FLOP/s that it reaches in bf16, or in
    float32 where bf16 is emulated."""
    relative: Mapping[str, float]
    """Arithmetic → its speed over that one."""
    read: Mapping[str, float]
    """Engine → bytes a second at which a decoding step reads weights and key-value cache."""
    link: float
    """Bytes a second between devices of a machine, in one direction."""
    network: float
    """The same between machines, a device's share."""
    scoring: str
    """What ``precision.scoring: auto`` comes to: mostly the cheapest that is finer than bf16 (docs/precision.md)."""
    bf16: bool = True
    """Whether it multiplies bf16 itself."""
    libraries: float = 1 * GIB
    """Bytes that the libraries take on a device."""
    devices_a_machine: int = 8
    cpu: bool = False
    overheads: Overheads = field(default_factory=Overheads)

    def reach(self, stage: str, arithmetic: str) -> float:
        """FLOP/s of a stage in an arithmetic."""
        return self.speed[stage] * self.relative["bfloat16" if arithmetic == "mixed" else arithmetic]


# Shares of the peak. Training: Llama 3 reached 38 to 43% on H100s (arXiv 2407.21783, Table 4), of full sequences; ours
# are short. Scoring is its forward pass without communication. Decoding: what a batch that is not bound by memory
# leaves. Reading: vLLM's kernels come to well over half of the bandwidth; `generate` launches each operation alone.
UTILISATION = {"transformers": 0.2, "vllm": 0.4, "scoring": 0.45, "training": 0.35}
READING = {"transformers": 0.2, "vllm": 0.6}
LAUNCHES = Overheads(engine=40.0, pass_of_layer=0.5e-3, sampled=0.2e-3, scored=0.3e-3, trained=0.5e-3, disk=2 * GB)


def _gpu(name: str, memory: float, bf16: float, tf32: float, float32: float, bandwidth: float, link: float) -> Hardware:
    """Peaks without sparsity in TFLOP/s, memory in GB, bandwidths in GB/s."""
    return Hardware(
        name=name,
        source="assumed: the data sheet's peak, at "
        + ", ".join(f"{100 * share:.0f}% ({stage})" for stage, share in UTILISATION.items()),
        memory=memory * GB,
        speed={stage: share * bf16 * TERA for stage, share in UTILISATION.items()},
        relative={"bfloat16": 1.0, "tf32": tf32 / bf16, "float32": float32 / bf16},
        read={engine: share * bandwidth * GB for engine, share in READING.items()},
        link=link * GB,
        network=50 * GB,  # 400 Gb/s a GPU, as in NVIDIA's DGX H100: eight ConnectX-7 for eight GPUs
        scoring="tf32",
        overheads=LAUNCHES,
    )


GPUS = {
    gpu.name: gpu
    for gpu in (
        # NVIDIA L4, data sheet of 2023: half of its figures "with sparsity"; PCIe 4.0 x16, 32 GB/s each way
        _gpu("l4", memory=24, bf16=121, tf32=60, float32=30.3, bandwidth=300, link=32),
        # NVIDIA Ada GPU architecture, white paper 2.0, appendix A, RTX 4090: bf16 with fp32 accumulation
        _gpu("rtx4090", memory=24, bf16=165.2, tf32=82.6, float32=82.6, bandwidth=1008, link=32),
        # NVIDIA L40S, data sheet of 2023
        _gpu("l40s", memory=48, bf16=362, tf32=183, float32=91.6, bandwidth=864, link=32),
        # NVIDIA A100 80GB SXM, data sheet of 2021; NVLink 600 GB/s, both ways together
        _gpu("a100", memory=80, bf16=312, tf32=156, float32=19.5, bandwidth=2039, link=300),
        # NVIDIA H100 SXM, data sheet of 2023; NVLink 900 GB/s
        _gpu("h100", memory=80, bf16=989, tf32=494, float32=67, bandwidth=3350, link=450),
        # NVIDIA H200 SXM, data sheet of 2024
        _gpu("h200", memory=141, bf16=989, tf32=494, float32=67, bandwidth=4800, link=450),
    )
}


def find_gpu(name: str) -> Hardware:
    """A GPU by its name here.

    Raises:
        ConfigurationError: there is none of this name.
    """
    if name.lower() not in GPUS:
        remedy = f"choose one of {', '.join(GPUS)}; or leave it out, for this machine"
        raise ConfigurationError("--hardware", f"there is no {name!r} in the list", remedy)
    return GPUS[name.lower()]
