"""One MLflow run a run, one child run an iteration, with the same metric names in every child.

Steps of one pipeline that are run one at a time, as Airflow does, are one MLflow run.

Metrics are repeated on the parent with the iteration as their step, so that parents of different methods can be
compared as curves. Models are logged as external models with their lineage; weights are not copied.
"""

import hashlib
import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
from datasets import Dataset
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from mlflow.entities import Dataset as MlflowDataset
from mlflow.entities import (
    DatasetInput,
    LoggedModelInput,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    RunTag,
)

from selfie.config.parameters import flatten
from selfie.errors.redaction import move_credentials, redact
from selfie.reporting.summary import policy_name
from selfie.tracking.journal import JournalledClient
from selfie.tracking.metrics import numbers, training_curve

ARTIFACTS = {
    "summary": "summary.json",
    "report": "report.md",
    "html_report": "report.html",
    "progress_plot": "progress.html",
}
WHOLE = "__default__"
SLICES = ("tags", "from_nodes", "to_nodes", "node_names", "from_inputs", "to_outputs", "namespaces")
METRICS = ("evaluation", "labels", "diagnostics", "style_guide", "drift", "mt_bench", "capabilities")


class MlflowHooks:
    """Follows a run from outside: nodes know nothing of MLflow."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Reads ``mlflow.yml``."""
        settings = context.config_loader["mlflow"]
        # MLflow prints the address of every run.
        uri = move_credentials(settings["tracking_uri"], "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
        self.settings = {**settings, "tracking_uri": uri}
        self.project = Path(context.project_path)
        self.parameters = context.params

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Sends what an earlier run could not; the parent run itself opens with the first node."""
        mlflow.set_tracking_uri(self.settings["tracking_uri"])
        self.client = JournalledClient(self.settings["tracking_uri"], catalog.load("mlflow_journal") / "journal.jsonl")
        self.run_params = run_params
        initial = catalog.config_resolver.resolve_pattern("initial_model")  # type: ignore[attr-defined]
        self.initial_model = initial.get("hub") or Path(initial.get("filepath", "")).name
        self.parent = ""
        self.read: set[tuple[str, str]] = set()
        self.children: dict[str, str] = {}
        self.logged: list[str] = []
        self.seconds: dict[tuple[str, str], float] = {}
        self.models: dict[str, str] = {}

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Opens the parent run before the first node, and starts the node's clock."""
        if not self.parent:
            self._open()
        self.node_started = time.monotonic()

    @hook_impl
    def after_node_run(self, node: Node, inputs: dict[str, Any]) -> None:
        """Adds the node's seconds to its stage, and what it read to the run's lineage."""
        self._log_datasets(self.parent, {name: value for name, value in inputs.items() if "." not in name})
        if node.namespace is None:
            return
        child = self._child(node.namespace)
        stage = next(iter(node.tags))
        key = (node.namespace, stage)
        self.seconds[key] = self.seconds.get(key, 0.0) + time.monotonic() - self.node_started
        self.client.log_metric(child, f"seconds_{stage}", self.seconds[key])
        if "training_log" in "".join(node.outputs):
            self._log_lineage(child, inputs)
        if f"{node.namespace}.outputs" in node.outputs:
            self._log_datasets(child, inputs)
            if node.namespace == "initial" and self._model("initial_model") is None:
                self._log_model(node.namespace, "initial_model")

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any, node: Node) -> None:
        """Metrics, curves, models and reports go to the run they belong to."""
        kind = dataset_name.rsplit(".", 1)[-1]
        if kind in METRICS and node.namespace:
            self._log_metrics(node.namespace, numbers(data))
            self.logged.append(dataset_name)
            self._note()
        elif kind == "heldout" and node.namespace:
            own = {name: value for name, value in data.items() if name.startswith("heldout_")}
            self._log_metrics(node.namespace, numbers(own))
            self.client.log_dict(self._child(node.namespace), data, "heldout.json")
        elif kind == "training_log" and node.namespace:
            self._log_curve(self._child(node.namespace), data)
        elif dataset_name.startswith("policy_") and node.namespace:
            self._log_model(node.namespace, dataset_name)
        elif kind in ("annotations", "examples") and node.namespace and data:
            self.client.log_dict(self._child(node.namespace), data, f"{kind}.json")
        elif kind.endswith("_plot") and node.namespace:
            self.client.log_figure(self._child(node.namespace), data, f"{kind.removesuffix('_plot')}.html")
        elif dataset_name in ARTIFACTS:
            self._log_artifact(dataset_name, data)

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Closes the runs. Metrics that did not have to be made, and others that the report shows, are logged too."""
        if self.parent:
            shown = pipeline.only_nodes_with_tags("reporting").inputs()
            for name in sorted((pipeline.all_outputs() | shown) - set(self.logged)):
                namespace, _, kind = name.rpartition(".")
                if kind in METRICS and namespace and catalog.exists(name):
                    self._log_metrics(namespace, numbers(catalog.load(name)))
        self._close("FINISHED")

    @hook_impl
    def on_pipeline_error(self, error: BaseException) -> None:
        """Closes the runs as failed, with the error's first line."""
        if getattr(self, "parent", ""):
            text = str(error) or type(error).__name__
            self.client.set_tag(self.parent, "error", redact(text).split("\n", 1)[0][:500])
            self._close("FAILED")

    def _open(self) -> None:
        """A new parent run, or the last one, if that was cut short, or ran other steps, with the same parameters."""
        self.experiment_id = self._experiment(self.parameters["experiment"])
        name = _pipelines(self.run_params) or "whole loop"
        flat = flatten(self.parameters)
        self.tags = tags = self._tags(self.run_params, flat)
        self.signature = [name, tags["config_hash"], tags["kedro_env"]]
        last = self.client.open_run
        if last is not None and last["signature"] == self.signature:
            self.parent, self.children, self.logged = last["parent"], last["children"], last["logged"]
            for run in [self.parent, *self.children.values()]:
                self.client.update_run(run, status="RUNNING")
            self.client.set_tag(self.parent, "continued", self.run_params["run_id"])
            return
        if last is not None and not last.get("ended"):
            for run in [*last["children"].values(), last["parent"]]:
                self.client.set_terminated(run, "KILLED")
        run = self.client.create_run(
            self.experiment_id, run_name=_run_name(self.parameters["experiment"], self.run_params)
        )
        self.parent = run.info.run_id
        self.client.log_batch(
            self.parent,
            params=[Param(key, str(value)) for key, value in flat.items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
        )
        self._note()

    def _note(self, ended: bool = False) -> None:
        run = {"signature": self.signature, "parent": self.parent, "children": self.children, "logged": self.logged}
        self.client.note_open({**run, "ended": ended})

    def _experiment(self, name: str) -> str:
        on_server = self.settings["tracking_uri"].startswith("http")
        location = None if on_server else (self.project / self.settings["artifact_location"]).as_uri()
        return self.client.experiment(name, location)

    def _tags(self, run_params: dict[str, Any], flat: dict[str, Any]) -> dict[str, str]:
        commit = _git_commit(self.project)
        configuration = json.dumps(flat, sort_keys=True, default=str).encode()
        return {
            "git_commit": commit or "none",
            "config_hash": hashlib.sha256(configuration).hexdigest()[:16],
            "kedro_env": str(run_params["env"]),
            "kedro_run_id": run_params["run_id"],
            "method": str(flat.get("method") or "as configured"),
            "seed": str(flat["seed"]),
            "model": self.initial_model,
            "mlflow.source.name": _command(run_params),
            "mlflow.source.type": "LOCAL",
            "mlflow.source.git.commit": commit.removesuffix("-dirty"),
        }

    def _child(self, namespace: str) -> str:
        if namespace not in self.children:
            run = self.client.create_run(
                self.experiment_id,
                run_name=policy_name(namespace),
                tags={**self.tags, "mlflow.parentRunId": self.parent, "namespace": namespace},
            )
            self.children[namespace] = run.info.run_id
            self._note()
        return self.children[namespace]

    def _log_metrics(self, namespace: str, metrics: dict[str, float]) -> None:
        now, step = int(time.time() * 1000), _step(namespace)
        self.client.log_batch(self._child(namespace), metrics=[Metric(k, v, now, step) for k, v in metrics.items()])
        if namespace != "initial":  # the parent's curves begin with policy 0
            self.client.log_batch(self.parent, metrics=[Metric(k, v, now, step) for k, v in metrics.items()])

    def _log_curve(self, child: str, log: Dataset) -> None:
        now = int(time.time() * 1000)
        self.client.log_batch(
            child,
            metrics=[
                Metric(f"train_{name}", value, now, step)
                for step, values in training_curve(log).items()
                for name, value in values.items()
            ],
        )

    def _log_model(self, namespace: str, name: str) -> None:
        child = self._child(namespace)
        model = self.client.create_logged_model(
            self.experiment_id, name=name, source_run_id=child, model_type="policy", tags={"namespace": namespace}
        )
        self.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        for run in (child, self.parent):
            self.client.log_outputs(run, [LoggedModelOutput(model.model_id, step=_step(namespace))])
        self.models[name] = model.model_id

    def _log_lineage(self, child: str, inputs: Mapping[str, Any]) -> None:
        self._log_datasets(child, inputs)
        for name in inputs:
            model = self._model(name) if name.startswith("policy_") or name == "initial_model" else None
            if model:
                self.client.log_inputs(child, models=[LoggedModelInput(model)])

    def _log_datasets(self, run: str, inputs: Mapping[str, Any]) -> None:
        """Each one once a run."""
        for name, value in inputs.items():
            if isinstance(value, Dataset) and (run, name) not in self.read:
                self.read.add((run, name))
                profile = json.dumps({"rows": len(value)})
                data = MlflowDataset(name, value._fingerprint, "kedro", json.dumps({"dataset": name}), profile=profile)
                self.client.log_inputs(run, datasets=[DatasetInput(data)])

    def _model(self, name: str) -> str | None:
        """This run's, or the last earlier one's."""
        if name in self.models:
            return self.models[name]
        found = self.client.search_logged_models([self.experiment_id], filter_string=f"name = '{name}'", max_results=1)
        return found[0].model_id if found else None

    def _log_artifact(self, name: str, data: Any) -> None:
        if name == "summary":
            self.client.log_dict(self.parent, data, ARTIFACTS[name])
        elif name in ("report", "html_report"):
            self.client.log_text(self.parent, data, ARTIFACTS[name])
        else:
            self.client.log_figure(self.parent, data, ARTIFACTS[name])

    def _close(self, status: str) -> None:
        if self.parent:
            for run in [*self.children.values(), self.parent]:
                self.client.set_terminated(run, status)
            if status == "FINISHED" and any(self.run_params[name] for name in SLICES):
                self._note(ended=True)  # other steps of the pipeline may follow
            elif status == "FINISHED":
                self.client.note_open(None)
        self.client.close()


def _command(run_params: Mapping[str, Any]) -> str:
    """What was typed, less ``--params``, whose values are the run's parameters."""
    names = _pipelines(run_params, ",")
    return (
        "kedro run" + (f" --pipelines {names}" if names else "") + (f" --env {e}" if (e := run_params["env"]) else "")
    )


def _run_name(experiment: str, run_params: Mapping[str, Any]) -> str:
    """Experiment (a method's is EXPERIMENT_METHOD), what ran, what ``--params`` changed, when."""
    changed = {key: value for key, value in flatten(run_params["runtime_params"]).items() if key != "experiment"}
    return " ".join(
        [
            f"{experiment}:",
            _pipelines(run_params) or "whole loop",
            *(f"{key}={value}" for key, value in changed.items()),
            run_params["run_id"],
        ]
    )


def _pipelines(run_params: Mapping[str, Any], separator: str = "+") -> str:
    """Their names; none for the whole, which a server and Airflow call by its own name."""
    return separator.join(name for name in run_params["pipeline_names"] or [] if name != WHOLE)


def _step(namespace: str) -> int:
    """The number of the policy that the namespace trains; the initial model stands before policy 0."""
    if namespace.startswith("iteration_"):
        return int(namespace.rsplit("_", 1)[1])
    return 0 if namespace == "seeding" else -1


def _git_commit(project: Path) -> str:
    """The revision of the project's code, with ``-dirty`` where it was changed; empty without git or a repository."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=project,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:  # containers have no git
        return ""
    return described.stdout.strip()
