"""A plan as tables and lines for the terminal."""

from typing import Any

from rich.table import Table

from selfie.planning.hardware import GIB
from selfie.planning.memory import Memory, Strategy
from selfie.planning.plan import Plan
from selfie.reporting.tables import number

MINUTE, HOUR, DAY, YEAR = 60, 3600, 86400, 365 * 86400
SMALL = 10  # below it, a decimal
PREFIXES = ((1e24, "Y"), (1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
PARTS = ("weights", "gradients", "optimizer", "reference", "activations", "cache", "libraries")


def duration(seconds: float) -> str:
    """In the unit that reads well: 90 s, 27 min, 4.5 h."""
    units = ((2 * MINUTE, 1, "s"), (2 * HOUR, MINUTE, "min"), (4 * DAY, HOUR, "h"), (2 * YEAR, DAY, "days"))
    _, size, unit = next((row for row in units if seconds < row[0]), (0, YEAR, "years"))
    value = seconds / size
    return f"{value:.1f} {unit}" if value < SMALL else f"{value:,.0f} {unit}"


def amount(value: float) -> str:
    """With a prefix: 3.2 G."""
    size, prefix = next((row for row in PREFIXES if value >= row[0]), (1.0, ""))
    return f"{value / size:,.1f} {prefix}".rstrip() if value else "–"


def stage_table(plan: Plan) -> Table:
    """A row a stage, a sum for each namespace, and the whole."""
    table = Table(title=f"{plan.model}, {amount(plan.shape.parameters)} weights: {plan.devices} × {plan.hardware.name}")
    for column in ("", "stage", "tokens", "FLOPs", "time", "$", "GiB a device", "bound by"):
        table.add_column(column, justify="left" if column in ("", "stage", "bound by") else "right")
    rows = plan.stages()
    for namespace in dict.fromkeys(row["namespace"] for row in rows):
        for row in (row for row in rows if row["namespace"] == namespace):
            table.add_row(namespace or "–", row["stage"], *_cells(row))
        together = plan.summed(step for step in plan.steps if (step.namespace or "") == namespace)
        table.add_row(namespace or "–", "together", *_cells(together), style="bold", end_section=True)
    whole = {**plan.summed(plan.steps), "seconds": plan.seconds, "dollars": plan.dollars(plan.seconds)}
    table.add_row("all", "with the start", *_cells(whole), style="bold")
    return table


def _cells(row: dict[str, Any]) -> list[str]:
    money, bound = number(row["dollars"], 2), row["bound_by"]
    return [amount(row["tokens"]), amount(row["flops"]), duration(row["seconds"]), money, gib(row["peak_bytes"]), bound]


def memory_table(plan: Plan) -> Table:
    """GiB a device: ways to train, and what the other stages hold at their largest."""
    table = Table(title="Memory a device, GiB", caption="checkpointing: layers are computed again in the backward pass")
    table.add_column(min_width=24)
    for title in (*PARTS, "all", "fits"):
        table.add_column(title.replace("optimizer", "AdamW"), justify="left" if title == "fits" else "right")
    largest: dict[str, Memory] = {}
    for step in plan.steps:
        if step.work is not None and step.work.kind in ("sampling", "scoring"):
            kind = step.work.kind
            largest[kind] = max(largest.get(kind, Memory()), step.memory, key=lambda memory: memory.total)
    for way in [*plan.strategies, *(Strategy(kind, memory) for kind, memory in largest.items())]:
        cells = [gib(getattr(way.memory, part)) for part in PARTS] + [gib(way.memory.total)]
        table.add_row(way.name, *cells, "yes" if way.memory.fits(plan.hardware) else "no")
    return table


def lines(plan: Plan) -> list[str]:
    """What does not fit, the bottleneck, disk, judge, and what was assumed."""
    stage, bound = plan.bottleneck()
    said = [f"! {problem}" for problem in plan.problems]
    said += [f"Most time: {stage}, bound by {bound}.", f"Disk: {gib(plan.disk)} GiB."]
    if plan.works("asking"):
        money = plan.judge_dollars
        cost = "its price is not configured" if money is None else f"${money:,.2f}"
        said.append(f"Judge: {sum(work.rows for work in plan.works('asking')):,.0f} questions, {cost}.")
    said.append(f"Speeds {plan.hardware.source}.")
    return said + [f"Assumed: {assumption}." for assumption in plan.assumptions]


def gib(size: float) -> str:
    """Of bytes, without the unit."""
    return f"{size / GIB:,.1f}" if size else "–"
