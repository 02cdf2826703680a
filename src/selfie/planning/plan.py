"""A run's plan: time, FLOPs and money of each stage, memory by strategy, disk; what does not fit, and what would."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from selfie.planning.cost import Cost, cost_of
from selfie.planning.hardware import GIB, Hardware
from selfie.planning.memory import (
    USABLE,
    Memory,
    Strategy,
    disk_bytes,
    fewest_shards,
    fitting_devices,
    memory_of,
    row_bytes,
    strategies,
)
from selfie.planning.model_shape import ModelShape
from selfie.planning.steps import Setting, work_of
from selfie.planning.work import Work

SECONDS_PER_HOUR, MILLION = 3600, 1e6
LORA_RANK = 16
"""In the table of strategies, where none is set."""


@dataclass(frozen=True)
class Step:
    """A step of the pipelines, and what it takes."""

    name: str
    namespace: str | None
    stage: str
    work: Work | None
    cost: Cost
    memory: Memory
    flops: float


@dataclass(frozen=True)
class Plan:
    """Of a whole run, or of some of its steps."""

    model: str
    shape: ModelShape
    hardware: Hardware
    devices: int
    setting: Setting
    steps: list[Step]
    price: float | None = None
    """Dollars of a device and hour."""
    assumptions: Sequence[str] = ()
    """What stands for data that is not there."""
    strategies: list[Strategy] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What does not fit or can't be done today, and what would help."""

    @property
    def seconds(self) -> float:
        """The whole run's, with its start."""
        return self.hardware.overheads.start + sum(step.cost.seconds for step in self.steps)

    def works(self, kind: str) -> list[Work]:
        """Those of a kind."""
        return [step.work for step in self.steps if step.work is not None and step.work.kind == kind]

    def summed(self, steps: Iterable[Step]) -> dict[str, Any]:
        """Tokens, FLOPs, seconds, dollars and bytes of a device of these steps, and what most of their time goes to."""
        parts: dict[str, float] = {}
        steps = list(steps)
        for step in steps:
            for part, spent in step.cost.parts.items():
                parts[part] = parts.get(part, 0.0) + spent
        seconds = sum(parts.values())
        return {
            "tokens": sum(step.work.tokens for step in steps if step.work),
            "flops": sum(step.flops for step in steps),
            "seconds": seconds,
            "dollars": self.dollars(seconds),
            "peak_bytes": max((step.memory.total for step in steps), default=self.hardware.libraries),
            "bound_by": max(parts, key=parts.__getitem__, default=None),
        }

    def dollars(self, seconds: float) -> float | None:
        """All devices are paid for all of the time."""
        return None if self.price is None else seconds / SECONDS_PER_HOUR * self.devices * self.price

    def stages(self) -> list[dict[str, Any]]:
        """A row for each stage of each namespace, in their order."""
        keys = dict.fromkeys((step.namespace or "", step.stage) for step in self.steps)
        return [{"namespace": of, "stage": stage, **self.summed(self._of(stage, of))} for of, stage in keys]

    def bottleneck(self) -> tuple[str, str]:
        """The stage with the most time over all iterations, and what most of this goes to."""
        sums = {stage: self.summed(self._of(stage)) for stage in dict.fromkeys(step.stage for step in self.steps)}
        stage = max(sums, key=lambda name: sums[name]["seconds"])
        return stage, sums[stage]["bound_by"]

    def _of(self, stage: str, namespace: str | None = None) -> list[Step]:
        there = [step for step in self.steps if step.stage == stage]
        return [step for step in there if namespace is None or (step.namespace or "") == namespace]

    @property
    def disk(self) -> float:
        """Bytes: policies and checkpoints; responses as they were drawn and with log-probs, and pairs."""
        parameters, trained = self.setting.parameters, [step for step in self.steps if step.name == "train_policy"]
        drawn = [step.work for step in self.steps if step.name == "generate_responses" and step.work]
        kept = 2 + 2 / parameters.generation.samples_per_prompt
        rows = sum(kept * work.rows * row_bytes(work.prompt, work.response) for work in drawn)
        rank = parameters.training.lora_rank
        return rows + (disk_bytes(self.shape, len(trained), rank) if trained else 0.0)

    @property
    def judge_dollars(self) -> float | None:
        """None where no endpoint is asked, or its price is not configured."""
        asked, price = self.works("asking"), self.setting.parameters.annotation.endpoint.price
        if not asked or price is None:
            return None
        return sum(w.rows * (w.prompt * price.prompt + w.response * price.completion) for w in asked) / MILLION

    def as_json(self) -> dict[str, Any]:
        """Plain data: seconds, bytes, dollars."""
        stage, bound = self.bottleneck()
        return {
            "model": self.model,
            "parameters": self.shape.parameters,
            "hardware": self.hardware.name,
            "devices": self.devices,
            "speeds": self.hardware.source,
            "stages": self.stages(),
            "start_seconds": self.hardware.overheads.start,
            "total": {**self.summed(self.steps), "seconds": self.seconds, "dollars": self.dollars(self.seconds)},
            "bottleneck": {"stage": stage, "bound_by": bound},
            "strategies": [
                {"name": way.name, "fits": way.memory.fits(self.hardware)}
                | asdict(way.memory)
                | {"total": way.memory.total}
                for way in self.strategies
            ],
            "disk_bytes": self.disk,
            "judge_dollars": self.judge_dollars,
            "problems": self.problems,
            "assumptions": list(self.assumptions),
        }


def make_plan(
    nodes: Iterable[tuple[str, str | None, str]],
    setting: Setting,
    model: str,
    shape: ModelShape,
    hardware: Hardware,
    devices: int = 1,
    price: float | None = None,
    assumptions: Sequence[str] = (),
    in_shards: bool = False,
) -> Plan:
    """What the steps take.

    Args:
        nodes: of each step its name without its namespace, its namespace and its stage.
        setting: the run's parameters and sizes.
        model: what it is called.
        shape: the model's.
        hardware: of the devices.
        devices: how many.
        price: dollars of a device and hour.
        assumptions: what stands for data that is not there.
        in_shards: whether trainings are configured to lie spread over the devices.
    """
    named = [(*node, work_of(node[0], node[1], setting)) for node in nodes]
    trainings = [work for *_, work in named if work is not None and work.kind == "training"]
    largest = max(trainings, key=lambda work: memory_of(work, shape, hardware).total, default=None)
    sharded = devices > 1 and (in_shards or not memory_of(largest, shape, hardware).fits(hardware))
    steps = []
    for name, namespace, stage, work in named:
        cost = cost_of(work, shape, hardware, devices, sharded)
        memory = memory_of(work, shape, hardware, devices, cost.devices if sharded else 1)
        steps.append(Step(name, namespace, stage, work, cost, memory, work.flops(shape) if work else 0.0))
    if largest is None:
        return Plan(model, shape, hardware, devices, setting, steps, price, assumptions)
    used = cost_of(largest, shape, hardware, devices).devices
    ways = strategies(largest, shape, hardware, used, largest.lora_rank or LORA_RANK)
    shards = used if in_shards else 1
    problems = _training_problems(largest, ways, shape, hardware, devices, shards)
    problems += _other_problems(steps, shape, hardware, devices)
    return Plan(model, shape, hardware, devices, setting, steps, price, assumptions, ways, problems)


def _training_problems(
    work: Work, ways: list[Strategy], shape: ModelShape, hardware: Hardware, devices: int, shards: int
) -> list[str]:
    """It does not fit as it is configured, or can't use all devices."""
    found = []
    whole = memory_of(work, shape, hardware, shards=shards)
    if not whole.fits(hardware):
        there = USABLE * hardware.memory / GIB
        needed = f"training does not fit: {whole.total / GIB:.1f} GiB a device, of which {there:.1f} can be used"
        found.append(f"{needed}. {_remedy(work, ways, shape, hardware)}")
    used = cost_of(work, shape, hardware, devices).devices
    if used < devices:
        share = f"training: {work.batch_size} pairs a step can be shared out evenly to {used} of {devices} devices"
        found.append(f"{share}; raise batch_size for more")
    return found


def _remedy(work: Work, ways: list[Strategy], shape: ModelShape, hardware: Hardware) -> str:
    """The first way that fits, and the same training on more devices."""
    would = [way.name for way in ways if way.memory.fits(hardware)][:1]
    shards = fewest_shards(work, shape, hardware) or 1
    if shards > 1 and not any("FSDP" in name for name in would):
        would.append(f"as configured, FSDP over {shards} devices and checkpointing")
    if not would:
        return "Nothing would, as the longest pair alone takes more: lower max_new_tokens"
    return f"What would: {'; '.join(would)} (docs/devices.md)"


def _other_problems(steps: list[Step], shape: ModelShape, hardware: Hardware, devices: int) -> list[str]:
    found: dict[str, None] = {}
    for step in steps:
        if step.work is None or step.work.kind not in ("sampling", "scoring"):
            continue
        group = fitting_devices(step.work, shape, hardware)
        if group > 1:
            missing = f", and there are {devices}: it does not fit" if group > devices else ""
            found[f"{step.work.kind}: the weights have to lie spread over {group} devices (not built){missing}"] = None
        elif not step.memory.fits(hardware):
            needed = f"{step.work.kind} does not fit: {step.memory.total / GIB:.1f} GiB"
            found[f"{needed}; lower the batch_tokens of its stage"] = None
    return list(found)
