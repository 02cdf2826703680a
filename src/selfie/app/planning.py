"""What a run will take: ``selfie plan``, and the line before a run.

Reads what ``kedro run`` would read, but neither weights nor data that is not on this machine.
"""

from collections.abc import Iterable
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from kedro.framework.context import KedroContext
from kedro.framework.project import pipelines
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from transformers import PreTrainedConfig

from selfie.app.preflight import check_parameters
from selfie.app.status import stage_of
from selfie.config.parameters import Parameters
from selfie.config.pipeline_options import PipelineOptions, current_options
from selfie.datasets import CheckpointDataset
from selfie.errors import ConfigurationError, UserError
from selfie.generation.engine_choice import choose_engine
from selfie.judges.openai_api import CHARACTERS_PER_TOKEN
from selfie.models.checkpoint import compute_device
from selfie.planning.hardware import GPUS, Hardware, find_gpu
from selfie.planning.model_shape import model_shape, read_config
from selfie.planning.plan import Plan, make_plan
from selfie.planning.steps import DataSizes, Setting, choose_arithmetics
from selfie.planning.tables import duration
from selfie.planning.this_machine import this_machine
from selfie.synthetic.language import MEAN_RESPONSE_TOKENS, PROMPT_TOKENS
from selfie.synthetic.pretraining import model_config
from selfie.training.processes import trains_in_shards

RESULTS = Path("benchmarks/results")
TEMPLATE_TOKENS = 25  # that a chat template puts around a prompt
ASSUMED_PROMPT_TOKENS = 150
ASSUMED_ROWS = {"seed_preferences": 2000, "evaluation_prompts": 805, "heldout_preferences": 1000}  # 805: AlpacaEval's
READ_ROWS = 1000


def plan_command(
    context: KedroContext, model: str | None, hardware: str | None, devices: int, price: float | None = None
) -> Plan:
    """Of the whole run in the context's environment.

    Args:
        context: Kedro's.
        model: a dataset of the catalog, a folder or a ``config.json``; the run's initial model by default.
        hardware: a GPU's name; this machine by default.
        devices: how many of them.
        price: dollars of a device and hour.

    Raises:
        ModelError: the model's configuration can't be read.
        ConfigurationError: there is no such hardware, or not as many devices.
        DataError: a file of the data can't be used.
    """
    parameters = check_parameters(context.config_loader["parameters"], context.config_loader.runtime_params or {})
    results = Path(context.project_path) / RESULTS
    there = find_gpu(hardware) if hardware else this_machine(results)
    pipeline = pipelines["__default__"]
    return plan_pipeline(pipeline, context.catalog, parameters, there, devices, model, price)


def announce(pipeline: Pipeline, catalog: CatalogProtocol, parameters: Parameters, project: Path) -> str:
    """What will run, where, and roughly how long: as the last time, or as planned."""
    device = compute_device()
    hardware = (
        f"{device.type} ({torch.get_num_threads()} threads)"
        if device.type == "cpu"
        else f"{torch.accelerator.device_count()} × {device.type}"
    )
    line = (
        f"Experiment '{parameters.experiment}': {len(pipeline.nodes)} steps on {hardware}, "
        f"sampling with {choose_engine(parameters.generation.engine)}"
    )
    known = catalog.load("timings") if "timings" in catalog and catalog.exists("timings") else {}
    names = {node.name for node in pipeline.nodes}
    if names <= known.keys():
        return f"{line}; the last time they took {duration(sum(known[name]['seconds'] for name in names))}"
    if not {"initial_model", "gguf_model"} & pipeline.datasets():
        return line
    try:
        plan = plan_pipeline(pipeline, catalog, parameters, this_machine(project / RESULTS))
    except UserError:  # a model on the hub that can't be reached without loading it
        return line
    return f"{line}; roughly {duration(plan.seconds)} by `selfie plan`"


def plan_pipeline(
    pipeline: Pipeline,
    catalog: CatalogProtocol,
    parameters: Parameters,
    hardware: Hardware,
    devices: int = 1,
    model: str | None = None,
    price: float | None = None,
) -> Plan:
    """Of these steps; see :func:`plan_command`."""
    options = current_options()
    iterations = parameters.prompts_per_iteration[: options.iterations]
    _check_devices(devices, hardware, max(iterations, default=1) * parameters.generation.samples_per_prompt)
    name, config = _find_model(model, catalog, options)
    shape = model_shape(config, name)
    sizes, assumptions = _data_sizes(catalog, parameters, options)
    engine = parameters.generation.engine
    if engine not in ("transformers", "vllm"):
        engine = choose_engine("auto") if hardware.cpu else "vllm"
    setting = Setting(parameters, sizes, engine, choose_arithmetics(parameters, shape, hardware))
    nodes = [(node.name.rsplit(".", 1)[-1], node.namespace, stage_of(node)) for node in pipeline.nodes]
    in_shards = trains_in_shards(parameters.execution)
    return make_plan(nodes, setting, name, shape, hardware, devices, price, assumptions, in_shards)


def _check_devices(devices: int, hardware: Hardware, responses: int) -> None:
    """``responses``: of the largest iteration."""
    if hardware.cpu and devices > 1:
        problem = f"{hardware.name} is one device: all cores of this machine"
        raise ConfigurationError("--devices", problem, f"name GPUs: --hardware {'|'.join(GPUS)}")
    if devices > responses:
        problem = f"{devices:,} devices for at most {responses:,} responses an iteration: some would have nothing to do"
        raise ConfigurationError("--devices", problem, f"take at most {responses:,}")


def _find_model(name: str | None, catalog: CatalogProtocol, options: PipelineOptions) -> tuple[str, PreTrainedConfig]:
    """What the plan calls the model, and its configuration."""
    if name is None and options.preparation == "synthetic":
        return "the synthetic task's model", model_config()
    if name is None and options.preparation == "gguf" and not catalog.exists("initial_model"):
        file: Path = catalog.load("gguf_model")
        return file.name, read_config(str(file))
    name = name or "initial_model"
    dataset = catalog.get(name) if not Path(name).exists() and name in catalog else None
    if not isinstance(dataset, CheckpointDataset):
        return name, read_config(name)
    described, metadata = dataset._describe(), dataset.metadata or {}
    if "config" in metadata:
        return described["source"], read_config(metadata["config"])
    return described["source"], read_config(described["source"], described["revision"])


def _data_sizes(
    catalog: CatalogProtocol, parameters: Parameters, options: PipelineOptions
) -> tuple[DataSizes, list[str]]:
    """Rows and lengths of the data that is here; what stands for the others is said."""
    synthetic = parameters.synthetic
    if options.preparation == "synthetic" and synthetic is not None:
        pairs = min(parameters.seed_pairs or synthetic.labelled_pairs, synthetic.labelled_pairs)
        corpus = synthetic.corpus + synthetic.verdicts
        sizes = DataSizes(pairs, synthetic.evaluation_prompts, 0, PROMPT_TOKENS, MEAN_RESPONSE_TOKENS, corpus)
        return sizes, []
    names = ["seed_preferences", "evaluation_prompts"] + ["heldout_preferences"] * options.heldout
    assumptions: list[str] = []
    read = {name: _rows(name, catalog, assumptions) for name in names}
    counts = {name: rows if isinstance(rows, int) else len(rows) for name, rows in read.items()}
    limit = parameters.generation.max_new_tokens
    pairs = read["seed_preferences"]
    if isinstance(pairs, int):
        prompt, response = float(ASSUMED_PROMPT_TOKENS), float(limit)
        assumptions.append(f"prompts of {ASSUMED_PROMPT_TOKENS} tokens, responses as long as the limit of {limit}")
    else:
        few = pairs[:READ_ROWS]
        prompt = TEMPLATE_TOKENS + mean(_characters(messages) for messages in few["messages"]) / CHARACTERS_PER_TOKEN
        sides = [*few["chosen"], *few["rejected"]]
        response = mean(min(1 + len(text) / CHARACTERS_PER_TOKEN, limit) for text in sides)
        assumptions.append(f"responses as long as the seed pairs' ({response:.0f} tokens), prompts too ({prompt:.0f})")
    prompt = min(prompt, parameters.max_length - limit)
    used = min(parameters.seed_pairs or counts["seed_preferences"], counts["seed_preferences"])
    return (
        DataSizes(used, counts["evaluation_prompts"], counts.get("heldout_preferences", 0), prompt, response),
        assumptions,
    )


def _rows(name: str, catalog: CatalogProtocol, assumptions: list[str]) -> Any:
    """The rows of data on this machine; of other data their number, by the catalog or assumed."""
    entry = catalog.config_resolver.resolve_pattern(name)  # type: ignore[attr-defined]
    if "hub" not in entry and "://" not in str(entry.get("filepath")) and Path(str(entry.get("filepath"))).exists():
        return catalog.load(name)
    if "rows" in entry:
        return entry["rows"][1] - entry["rows"][0]
    assumptions.append(f"{ASSUMED_ROWS[name]:,} rows of {name}, which is not on this machine")
    return ASSUMED_ROWS[name]


def _characters(messages: Iterable[dict[str, str]]) -> int:
    return sum(len(message["content"]) for message in messages)
