"""``python -m benchmarks.plan_error`` (``make bench-plan``): what ``selfie plan`` says of a run beside what it took.

Reads what a finished run left: the times and peaks of memory of its steps (``timings.json``), or its ``summary.json``
where only that was kept. Plans the same steps with the same configuration, prints both stage by stage, and adds them to
``RESULTS/MACHINE-plan.json`` under the experiment's name. The plan counts as many threads as this process has: set
OMP_NUM_THREADS as it was set for the run.
"""

import json
import logging
from pathlib import Path
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.project import configure_project, pipelines, settings
from kedro.framework.startup import bootstrap_project
from kedro.pipeline import Pipeline

from selfie.app.planning import RESULTS, plan_pipeline
from selfie.app.preflight import check_parameters
from selfie.planning.hardware import GIB
from selfie.planning.plan import Plan
from selfie.planning.this_machine import this_machine
from selfie.reporting.summary import policy_name
from selfie.reporting.tables import markdown_table
from selfie.runtime.machine import describe_machine

PROJECT = Path(__file__).parents[1]
HEADER = ["namespace", "stage", "planned, s", "run, s", "planned / run"]
Stages = dict[tuple[str, str], float]
"""(namespace, stage) → seconds."""


def measured_stages(document: dict[str, Any]) -> Stages:
    """Of ``timings.json``, or of ``summary.json``, which has no steps outside of namespaces."""
    stages: Stages = {}
    if "iterations" in document:
        for policy in document["iterations"]:
            stages |= {
                (policy["name"], stage): spent for stage, spent in policy["seconds"].items() if spent is not None
            }
        return stages
    for timing in document.values():
        key = (policy_name(timing["namespace"] or ""), timing["stage"])
        stages[key] = stages.get(key, 0.0) + timing["seconds"]
    return stages


def compared(plan: Plan, document: dict[str, Any]) -> dict[str, Any]:
    """Plan and run, stage by stage and in all.

    Returns:
        ``plan_time_error``: the factor between the whole times, at least 1. ``plan_memory_error``: how far the planned
        peak is from the measured one, as a share of it. ``stages``: both times of each.
    """
    run = measured_stages(document)
    planned = {(policy_name(row["namespace"]), row["stage"]): row["seconds"] for row in plan.stages()}
    if "iterations" in document:
        seconds, peak = document["wall_seconds"], document["peak_rss_gib"]
    else:
        seconds, peak = sum(run.values()), max(timing["peak_rss_gib"] for timing in document.values())
    planned_peak = plan.summed(plan.steps)["peak_bytes"] / GIB
    ratio = plan.seconds / seconds
    return {
        "plan_time_error": round(max(ratio, 1 / ratio), 3),
        "plan_memory_error": round(abs(planned_peak / peak - 1), 3),
        "seconds": {"planned": round(plan.seconds, 1), "run": round(seconds, 1)},
        "peak_gib": {"planned": round(planned_peak, 2), "run": peak},
        "threads": describe_machine()["threads"],
        "speeds": plan.hardware.source,
        "stages": [
            {
                "namespace": of,
                "stage": stage,
                "planned": round(planned.get((of, stage), 0.0), 1),
                "run": round(spent, 1),
            }
            for (of, stage), spent in run.items()
        ],
    }


def page(result: dict[str, Any]) -> str:
    """Markdown, a line a stage and one for the whole."""
    rows = [(row["namespace"] or "–", row["stage"], row["planned"], row["run"]) for row in result["stages"]]
    rows.append(("all", "with the start", result["seconds"]["planned"], result["seconds"]["run"]))
    lines = [[of, stage, f"{a:.1f}", f"{b:.1f}", f"{a / b:.2f}" if b else "–"] for of, stage, a, b in rows]
    peak = result["peak_gib"]
    return (
        markdown_table(HEADER, lines)
        + f"\npeak memory, GiB: {peak['planned']:.2f} planned, {peak['run']:.2f} in the run\n"
        + f"plan_time_error {result['plan_time_error']}, plan_memory_error {result['plan_memory_error']}\n"
    )


def steps_of(pipeline: Pipeline, document: dict[str, Any]) -> Pipeline:
    """Those that the run's timings have: a run may have found others done."""
    if "iterations" in document:
        return pipeline
    return pipeline.filter(node_names=[node.name for node in pipeline.nodes if node.name in document])


@click.command()
@click.option("--run", "file", type=click.Path(exists=True, dir_okay=False), help="timings.json or summary.json.")
@click.option("--results", default=str(RESULTS), show_default=True)
def main(env: str | None, params: dict[str, Any], file: str | None, results: str) -> None:
    """Compares the plan of the configured experiment with its finished run."""
    logging.disable(logging.WARNING)
    bootstrap_project(PROJECT)
    configure_project("selfie")
    with settings.SESSION_CLASS.create(PROJECT, env=env, runtime_params=params) as session:
        context = session.load_context()
        document = json.loads(Path(file).read_text()) if file else context.catalog.load("timings")
        loader = context.config_loader
        parameters = check_parameters(loader["parameters"], loader.runtime_params or {})
        pipeline = steps_of(pipelines["__default__"], document)
        plan = plan_pipeline(pipeline, context.catalog, parameters, this_machine(PROJECT / RESULTS))
    result = compared(plan, document)
    click.echo(page(result))
    written = Path(results) / f"{describe_machine()['name']}-plan.json"
    known = json.loads(written.read_text()) if written.exists() else {}
    written.write_text(json.dumps({**known, parameters.experiment: result}, indent=1) + "\n")


main.params += [option for option in kedro_run.params if option.name in ("env", "params")]

if __name__ == "__main__":
    main()
