"""What surrounds a run: checks before it, a line at its start, timings, a table at its end."""

import logging
import os
import resource
import shutil
import threading
import time
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import click
import psutil
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from selfie.app.buckets import bucket_of, local_paths
from selfie.app.capability_checks import check_capabilities
from selfie.app.catalog_checks import check_data_folder, check_datasets, check_paths, check_written
from selfie.app.export_checks import check_export
from selfie.app.freshness import provenance_of, superseded, workspace_of
from selfie.app.planning import announce
from selfie.app.preflight import check_inputs, check_parameters
from selfie.app.status import stage_of
from selfie.config.pipeline_options import choose_options, current_options
from selfie.config.reading import read_configuration
from selfie.errors import AlreadyRunningError
from selfie.errors.disk_and_memory import storage_error
from selfie.errors.redaction import redact_logs
from selfie.reporting.tables import print_table, terminal_table
from selfie.storage.locks import RunLock
from selfie.storage.provenance import Artefact
from selfie.storage.remote import Bucket

logger = logging.getLogger(__name__)
KIB_PER_GIB = 2**20
WRITTEN_BY_HOOKS = {"run_lock", "preparation_lock", "quarantine", "timings", "mlflow_journal"}


class PreflightHooks:
    """Everything that can be wrong is found before a model loads or a file is written."""

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Shapes the pipelines as the environment says and checks all parameters."""
        redact_logs()
        configuration = read_configuration(context.config_loader)
        self.parameters = check_parameters(configuration["parameters"], context.config_loader.runtime_params or {})
        choose_options(configuration["globals"], self.parameters)
        check_data_folder(str(configuration["globals"]["data"]))
        bucket_of(context)
        written = Path(context.project_path, configuration["globals"]["data"])
        self.project = Path(context.project_path)
        self.data_folders = {Path(context.project_path, "data"), written}

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Reads what the user brings and says what will run."""
        check_datasets(pipeline.datasets(), catalog)
        check_written(pipeline.datasets() | {name for name in WRITTEN_BY_HOOKS if name in catalog}, catalog)
        check_paths(pipeline.datasets(), catalog, self.data_folders)
        check_export(pipeline, catalog, self.parameters.export)
        check_capabilities(pipeline, catalog)
        check_inputs(pipeline, catalog, self.parameters, current_options().iterations)
        logger.info(announce(pipeline, catalog, self.parameters, self.project))


class LockHooks:
    """Two runs never write to the same experiment, and a process runs one at a time: its hooks follow one run."""

    def __init__(self) -> None:
        self.lock: RunLock | None = None
        self.bucket: Bucket | None = None
        self.guard = threading.Lock()
        self.prepares: int | None = None  # the thread that made the last context
        self.runs: int | None = None

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Refuses what would change the pipelines and all hooks' state under a run in another thread."""
        with self.guard:
            self._refuse_besides(self.runs)
            self.prepares = threading.get_ident()
            self.context = context

    @hook_impl(wrapper=True, specname="before_pipeline_run")
    def begin(self) -> Generator[None, Any, Any]:
        """The process runs from here on; no longer where a hook refuses the run, since Kedro tells no hook of that."""
        with self.guard:
            self._refuse_besides(self.runs)
            self._refuse_besides(self.prepares)
            self.runs = threading.get_ident()
        self._let_go()  # a runner that was interrupted may have left it
        try:
            return (yield)
        except BaseException:
            self._release()
            raise

    @hook_impl(specname="before_pipeline_run", tryfirst=True)
    def open_bucket(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """With data in a bucket: takes the lock before the other checks, which read what the bucket holds."""
        bucket = bucket_of(self.context)
        if bucket is None:
            return
        bucket.open()
        self.bucket = bucket
        self.before_pipeline_run(catalog)
        names = pipeline.datasets() | {name for name in WRITTEN_BY_HOOKS if name in catalog}
        bucket.pull(local_paths(names, catalog))

    @hook_impl
    def before_pipeline_run(self, catalog: CatalogProtocol) -> None:
        """Takes the experiment's lock; it is also the first thing that is written, so a locked folder shows here."""
        if "run_lock" not in catalog or self.lock is not None:
            return
        lock: RunLock = catalog.load("run_lock")
        try:
            lock.acquire()
        except OSError as error:
            raise storage_error(error) from error
        self.lock = lock

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Lets go of it."""
        self._release()

    @hook_impl(trylast=True)
    def on_pipeline_error(self) -> None:
        """Lets go of it."""
        self._release()

    def _release(self) -> None:
        self._let_go()
        self.runs = None

    def _let_go(self) -> None:
        if self.bucket is not None:
            self.bucket.close()
            self.bucket = None
        if self.lock is not None:
            self.lock.release()
            self.lock = None

    @staticmethod
    def _refuse_besides(thread: int | None) -> None:
        if thread not in (None, threading.get_ident()):
            problem = "another of its threads is at a run, and a process runs one at a time"
            remedy = "wait until it is done, or start a process for each run that goes on at the same time"
            raise AlreadyRunningError(f"process {os.getpid()}", problem, remedy)


class ProvenanceHooks:
    """Every node's outputs know what they were made from, and its scratch belongs to exactly that."""

    @hook_impl
    def before_node_run(self, node: Node, catalog: CatalogProtocol) -> dict[str, Any] | None:
        """Hands the record to the outputs, and to the node a workspace of its own.

        Unfinished work that an earlier run left there for other inputs or parameters, or by another step version, is
        kept until the outputs are committed: who sets the parameter back before that goes on from it.
        """
        self.unsaved = set(node.outputs)
        self.scratch = None
        provenance = provenance_of(node, catalog)
        for name in node.outputs:
            dataset = catalog.get(name)
            if isinstance(dataset, Artefact):
                dataset.provenance = provenance
        workspace = workspace_of(node, catalog, provenance)
        if workspace is None:
            return None
        name, folder = workspace
        for other, there in superseded(folder).items():
            logger.info("%s: unfinished work from other inputs is kept until this is done: %s", node.name, there)
            logger.debug("kept in %s", other)
        folder.mkdir(parents=True, exist_ok=True)
        self.scratch = folder.parent
        return {name: folder}

    @hook_impl
    def after_dataset_saved(self, dataset_name: str) -> None:
        """Once all outputs are committed, the scratch has served, that of superseded work too."""
        self.unsaved.discard(dataset_name)
        if not self.unsaved and self.scratch is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)


class TimingHooks:
    """Records every node's share of the wall clock and the peak of the memory, in the dataset ``timings``.

    A share runs from the end of the node before, so that the shares add up to the whole, saving included. The first
    one's runs from the start of a command's process, imports included; in a notebook or a server from the run's start.
    """

    def __init__(self) -> None:
        # On the monotonic clock, so that nothing takes negative time when somebody sets the clock.
        self.mark = time.monotonic() - max(0.0, time.time() - psutil.Process().create_time())

    @hook_impl
    def before_pipeline_run(self) -> None:
        """Leaves out what a process that is older than its run did before."""
        if click.get_current_context(silent=True) is None:
            self.mark = time.monotonic()

    @hook_impl
    def after_node_run(self, node: Node, catalog: CatalogProtocol) -> None:
        """Adds the node to ``timings``."""
        if "timings" not in catalog:
            return
        now = time.monotonic()
        timings = catalog.load("timings") if catalog.exists("timings") else {}
        peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        timings[node.name] = {
            "namespace": node.namespace,
            "stage": stage_of(node),
            "seconds": round(now - self.mark, 2),
            "peak_rss_gib": round(peak / KIB_PER_GIB, 2),
        }
        catalog.save("timings", timings)
        self.mark = now


class ConsoleHooks:
    """The table at the end, and a word at the start where nothing will be skipped."""

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Nothing is kept of an earlier run in the same process."""
        self.summary: Any = None
        if run_params["runner"] != "None" and "ContinuingRunner" not in run_params["runner"]:  # None: the default
            logger.warning("%s repeats every step, fresh or not", run_params["runner"])

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Keeps the summary."""
        if dataset_name == "summary":
            self.summary = data

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Prints the summary, if one was made."""
        if self.summary is not None:
            print_table(terminal_table(self.summary))


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
