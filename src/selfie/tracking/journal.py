"""An MLflow client behind a journal: a server that is down, or dies, neither stops a run nor loses what it logs.

Every call is written to a file before it is sent. While the server can't be reached, calls only queue there; the next
run sends them first. Runs and models are known by names of our own until the server has given them its own.
"""

import json
import logging
import os
import time
import uuid
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow.entities
from mlflow import MlflowClient
from mlflow.entities._mlflow_object import _MlflowObject
from mlflow.exceptions import MlflowException

logger = logging.getLogger(__name__)

# A dead server is noticed in seconds; MLflow's own patience would hold up every call for minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

ENTITY = "$entity"
HANDLE = "selfie.handle"
# The server was there and refused: sending the same again would not help.
REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "BAD_REQUEST")


class JournalledClient:
    """What the tracking hook needs of ``MlflowClient``, as calls that always succeed.

    Args:
        tracking_uri: the server's or the database's.
        path: the journal, one JSON object a line: a call, what became of it (``done``), or what is noted (``open``).
    """

    def __init__(self, tracking_uri: str, path: Path):
        self.client = MlflowClient(tracking_uri)
        self.path = path
        self.online = True
        self.real: dict[str, str] = {}
        self.open_run: dict[str, Any] | None = None
        self.pending: dict[str, dict[str, Any]] = {}
        self._read()
        if self.pending:
            logger.info("MLflow: %d calls of an earlier run are sent first", len(self.pending))
            self.flush(again=True)

    def experiment(self, name: str, artifact_location: str | None) -> str:
        """The experiment of this name, made if need be."""
        return self._create("experiment", name, artifact_location)

    def create_run(self, experiment_id: str, run_name: str, tags: dict[str, str] | None = None) -> Any:
        """A run that starts now, whenever the server hears of it."""
        now = int(time.time() * 1000)
        run_id = self._create("create_run", experiment_id, start_time=now, tags=tags or {}, run_name=run_name)
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

    def create_logged_model(self, experiment_id: str, **kwargs: Any) -> Any:
        """A model's entry; its weights stay where they are."""
        return SimpleNamespace(model_id=self._create("create_logged_model", experiment_id, **kwargs))

    def search_logged_models(self, experiment_ids: list[str], **kwargs: Any) -> Any:
        """The only call that reads; without a server the result is empty."""
        known = [self.real.get(name, name) for name in experiment_ids]
        try:
            return self.client.search_logged_models(known, **kwargs) if self.online else []
        except MlflowException:
            return []

    def log_figure(self, run_id: str, figure: Any, artifact_file: str) -> None:
        """A plotly figure as a page."""
        self.log_text(run_id, figure.to_html(include_plotlyjs="cdn"), artifact_file)

    def __getattr__(self, call: str) -> Any:
        """Any other method of MlflowClient that returns nothing."""
        if call.startswith("_"):
            raise AttributeError(call)
        return lambda *args, **kwargs: self._send(call, args, kwargs)

    def note_open(self, run: dict[str, Any] | None) -> None:
        """Remembers the run that is under way, so that the next ``kedro run`` can continue it; None: it has ended."""
        self.open_run = run
        self._append({"open": run})

    def flush(self, again: bool = False) -> None:
        """Sends what waits, in order, until the server fails; ``again``: some of it may have arrived before."""
        for entry in list(self.pending.values()):
            if self.online:
                self._deliver(entry, again)

    def close(self) -> None:
        """Tries once more; once all has arrived, the journal keeps only what the next run may continue."""
        self.online = True
        self.flush()
        if self.pending:
            logger.warning("MLflow: %d calls wait in %s for the next run", len(self.pending), self.path)
            return
        kept = self.real if self.open_run else {}
        lines = [json.dumps({"real": kept}), json.dumps({"open": self.open_run})]
        new = self.path.with_name(f".{self.path.name}")
        new.write_text("\n".join([*lines, ""]))
        new.replace(self.path)

    def _create(self, call: str, *args: Any, **kwargs: Any) -> str:
        handle = f"local-{uuid.uuid4().hex}"
        self._send(call, args, kwargs, handle)
        return handle

    def _send(self, call: str, args: Iterable[Any], kwargs: dict[str, Any], handle: str | None = None) -> None:
        entry = {"id": uuid.uuid4().hex, "call": call, "args": _encode(list(args)), "kwargs": _encode(kwargs)}
        if handle:
            entry["handle"] = handle
        self.pending[entry["id"]] = entry
        self._append(entry)
        if self.online:
            self._deliver(entry)

    def _deliver(self, entry: dict[str, Any], again: bool = False) -> None:
        args, kwargs = _decode(self._known(entry["args"])), _decode(self._known(entry["kwargs"]))
        try:
            made = self._call(entry, args, kwargs, again)
        except Exception as error:
            if getattr(error, "error_code", None) not in REFUSALS:
                self.online = False
                first = str(error).split("\n", 1)[0][:200]
                logger.warning("MLflow can't be reached (%s); the run goes on, and %s is sent later", first, self.path)
                return
            logger.warning("MLflow refused %s: %s", entry["call"], error)
            made = None
        del self.pending[entry["id"]]
        self._append({"done": entry["id"], **({"handle": entry["handle"], "real": made} if made else {})})
        if made:
            self.real[entry["handle"]] = made

    def _call(self, entry: dict[str, Any], args: list, kwargs: dict[str, Any], again: bool) -> str | None:
        call, handle = entry["call"], entry.get("handle")
        if call == "experiment":
            found = self.client.get_experiment_by_name(args[0])
            return found.experiment_id if found else self.client.create_experiment(args[0], artifact_location=args[1])
        if call == "create_run":
            there = self.client.search_runs([args[0]], f"tags.`{HANDLE}` = '{handle}'") if again else []
            kwargs["tags"] = {**kwargs["tags"], HANDLE: handle}
            return (there[0] if there else self.client.create_run(*args, **kwargs)).info.run_id
        if call == "create_logged_model":
            return self.client.create_logged_model(*args, **kwargs).model_id
        getattr(self.client, call)(*args, **kwargs)
        return None

    def _known(self, value: Any) -> Any:
        """Our names replaced by the server's."""
        if isinstance(value, str):
            return self.real.get(value, value)
        if isinstance(value, list):
            return [self._known(item) for item in value]
        return {key: self._known(item) for key, item in value.items()} if isinstance(value, dict) else value

    def _append(self, line: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(line) + "\n")

    def _read(self) -> None:
        if not self.path.exists():
            return
        for text in self.path.read_text(encoding="utf-8").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue  # the last line of a run that was killed while it wrote
            if "call" in line:
                self.pending[line["id"]] = line
            elif "done" in line:
                self.pending.pop(line["done"], None)
                if "handle" in line:
                    self.real[line["handle"]] = line["real"]
            else:
                self.real |= line.get("real", {})
                self.open_run = line.get("open", self.open_run)


def _encode(value: Any) -> Any:
    """What JSON can hold; MLflow's entities keep their class's name."""
    if isinstance(value, _MlflowObject):
        return {ENTITY: type(value).__name__, **{key: _encode(item) for key, item in value}}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    return {key: _encode(item) for key, item in value.items()} if isinstance(value, dict) else value


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    fields = {key: _decode(item) for key, item in value.items() if key != ENTITY}
    return getattr(mlflow.entities, value[ENTITY]).from_dictionary(fields) if ENTITY in value else fields
