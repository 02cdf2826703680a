"""``python -m benchmarks.scaling``: the tables of docs/scaling.md, by ``selfie plan``.

One iteration of the paper's setting (``conf/paper``) with so many prompts, on H100s; nothing is measured. Where all
weights can't be trained on the devices, neither whole nor in shards, adapters are.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from kedro.framework.project import configure_project, pipelines, settings
from kedro.framework.startup import bootstrap_project
from kedro.io import CatalogProtocol

from selfie.app.planning import plan_pipeline
from selfie.app.preflight import check_parameters
from selfie.config.parameters import Parameters
from selfie.planning.hardware import GPUS, find_gpu
from selfie.planning.memory import Strategy
from selfie.planning.plan import LORA_RANK, Plan
from selfie.planning.tables import duration, gib
from selfie.reporting.tables import markdown_table

PROJECT = Path(__file__).parents[1]
MODELS = {"1.7B": "smollm2-1.7b", "7B": "mistral-7b", "70B": "llama-3-70b"}
DEVICES = (1, 8, 64, 512)
PROMPTS = tuple(10**power for power in range(5, 10))


@dataclass(frozen=True)
class Planner:
    """Plans one iteration."""

    catalog: CatalogProtocol
    parameters: Parameters
    hardware: str

    def plan(self, model: str, devices: int, prompts: int) -> tuple[Plan, Strategy | None]:
        """And how its training fits: None where it does not."""
        made = self._plan(self.parameters, model, devices, prompts)
        way = _way(made)
        if way is not None:
            trained = {
                "lora_rank": LORA_RANK if "LoRA" in way.name else 0,
                "lora_base": "nf4" if "4-bit" in way.name else "bfloat16",
                "optimizer": "adamw_8bit" if "8-bit" in way.name else "adamw",
                "gradient_checkpointing": "checkpointing" in way.name,
            }
            changed = {
                name: getattr(self.parameters, name).model_copy(update=trained) for name in ("seeding", "training")
            }
            made = self._plan(self.parameters.model_copy(update=changed), model, devices, prompts)
        return made, way

    def _plan(self, parameters: Parameters, model: str, devices: int, prompts: int) -> Plan:
        parameters = parameters.model_copy(update={"prompts_per_iteration": [prompts]})
        file = str(PROJECT / f"benchmarks/models/{MODELS[model]}.json")
        hardware = find_gpu(self.hardware)
        return plan_pipeline(pipelines["__default__"], self.catalog, parameters, hardware, devices, file)


def _way(plan: Plan) -> Strategy | None:
    return next((way for way in plan.strategies if way.memory.fits(plan.hardware)), None)


def memory_rows(planner: Planner) -> Iterator[list[str]]:
    """How training fits, and over how many devices sampling and scoring spread the weights."""
    for model in MODELS:
        for devices in DEVICES:
            plan, way = planner.plan(model, devices, PROMPTS[0])
            name = "does not fit" if way is None else way.name
            size = "–" if way is None else gib(way.memory.total)
            spread = [problem for problem in plan.problems if "lie spread" in problem]
            groups = {problem.split(":")[0]: problem.split("over ")[1].split(" ")[0] for problem in spread}
            engines = ", ".join(f"{groups.get(kind, '1')} ({kind})" for kind in ("sampling", "scoring"))
            yield [model, f"{devices}", name, size, engines]


def time_rows(planner: Planner) -> Iterator[list[str]]:
    """The whole run's time, and what bounds its longest stage; by number of prompts."""
    for model in MODELS:
        for devices in DEVICES:
            cells = []
            for prompts in PROMPTS:
                plan, way = planner.plan(model, devices, prompts)
                stage, bound = plan.bottleneck()
                fits = way is not None and not any(problem.endswith("it does not fit") for problem in plan.problems)
                cells.append(f"{duration(plan.seconds)}: {stage}, {bound}" if fits else "–")
            yield [model, f"{devices}", *cells]


def size_rows(planner: Planner) -> Iterator[list[str]]:
    """What does not depend on the devices."""
    for model in MODELS:
        plans = [planner.plan(model, DEVICES[-1], prompts)[0] for prompts in PROMPTS]
        yield [model, "EFLOPs", *(f"{plan.summed(plan.steps)['flops'] / 1e18:,.0f}" for plan in plans)]
        yield [model, "disk, TB", *(f"{plan.disk / 1e12:,.1f}" for plan in plans)]


def tables(planner: Planner) -> str:
    """All of them, as Markdown."""
    prompts = [f"10^{len(str(count)) - 1} prompts" for count in PROMPTS]
    return "\n".join(
        [
            markdown_table(
                [
                    "model",
                    "devices",
                    "training, the first way that fits",
                    "GiB a device",
                    "devices that hold the weights",
                ],
                memory_rows(planner),
            ),
            markdown_table(["model", "devices", *prompts], time_rows(planner)),
            markdown_table(["model", "", *prompts], size_rows(planner)),
        ]
    )


@click.command()
@click.option("--hardware", type=click.Choice(list(GPUS)), default="h100", show_default=True)
@click.option("--batch-size", default=32, show_default=True, help="Pairs of an optimiser step; the paper's is 32.")
def main(hardware: str, batch_size: int) -> None:
    """Prints the tables as Markdown."""
    logging.disable(logging.WARNING)
    bootstrap_project(PROJECT)
    configure_project("selfie")
    with settings.SESSION_CLASS.create(PROJECT, env="paper", runtime_params={"iterations": 1}) as session:
        context = session.load_context()
        loader = context.config_loader
        parameters = check_parameters(loader["parameters"], loader.runtime_params or {})
        batch = {"batch_size": batch_size}
        larger = {name: getattr(parameters, name).model_copy(update=batch) for name in ("seeding", "training")}
        planner = Planner(context.catalog, parameters.model_copy(update=larger), hardware)
        click.echo(tables(planner))


if __name__ == "__main__":
    main()
