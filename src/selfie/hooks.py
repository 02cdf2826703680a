"""What surrounds a run: checks before it, a line at its start, timings, a table at its end."""

import logging
import os
import resource
import time
import warnings
from pathlib import Path
from typing import Any

import psutil
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from selfie.configuration import check_datasets, check_paths, read_configuration
from selfie.preflight import announce, check_inputs, check_parameters
from selfie.redaction import redact_logs
from selfie.reporting.tables import print_table, terminal_table
from selfie.shape import choose_shape, current_shape

logger = logging.getLogger(__name__)
KIB_PER_GIB = 2**20


class PreflightHooks:
    """Everything that can be wrong is found before a model loads or a file is written."""

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Shapes the pipelines as the environment says and checks all parameters."""
        redact_logs()
        configuration = read_configuration(context.config_loader)
        self.parameters = check_parameters(configuration["parameters"], context._runtime_params or {})
        choose_shape(configuration["globals"], self.parameters)
        written = Path(context.project_path, configuration["globals"]["data"])
        self.data_folders = {Path(context.project_path, "data"), written}

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Reads what the user brings and says what will run."""
        check_datasets(pipeline.datasets(), catalog)
        check_paths(pipeline.datasets(), catalog, self.data_folders)
        rows = check_inputs(pipeline, catalog, self.parameters, current_shape().iterations)
        logger.info(announce(pipeline, catalog, self.parameters, rows))


class TimingHooks:
    """Records every node's share of the wall clock and the peak of the memory, in the dataset ``timings``.

    A share runs from the end of the node before (the first one's from the start of the process), so that the shares
    add up to the whole, imports and saving included.
    """

    def __init__(self) -> None:
        self.mark = psutil.Process().create_time()

    @hook_impl
    def after_node_run(self, node: Node, catalog: CatalogProtocol) -> None:
        """Adds the node to ``timings``."""
        if "timings" not in catalog:
            return
        now = time.time()
        timings = catalog.load("timings") if catalog.exists("timings") else {}
        peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        timings[node.name] = {
            "room": node.namespace,
            "stage": _stage(node),
            "seconds": round(now - self.mark, 2),
            "peak_rss_gib": round(peak / KIB_PER_GIB, 2),
        }
        catalog.save("timings", timings)
        self.mark = now


class ConsoleHooks:
    """The table at the end."""

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Keeps the summary."""
        if dataset_name == "summary":
            self.summary = data

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Prints the summary, if one was made."""
        if hasattr(self, "summary"):
            print_table(terminal_table(self.summary))


def _stage(node: Node) -> str:
    return "training" if "seeding" in node.tags else next(iter(node.tags), "other")


def quiet_libraries() -> None:
    """Turns every library's telemetry off, unless the user's environment decides otherwise."""
    for name, value in {
        "DO_NOT_TRACK": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "VLLM_NO_USAGE_STATS": "1",
        "KEDRO_DISABLE_TELEMETRY": "true",
        "RAY_USAGE_STATS_ENABLED": "0",
        "TOKENIZERS_PARALLELISM": "false",
    }.items():
        os.environ.setdefault(name, value)
    # Outputs of split_prompts are named by the iteration's namespace on purpose.
    warnings.filterwarnings("ignore", message="One or more dataset names contain '.'")
    # Kedro's own use of OmegaConf, which says this three times a run.
    warnings.filterwarnings("ignore", message="register_new_resolver")
