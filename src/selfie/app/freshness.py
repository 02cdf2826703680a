"""Freshness: are a node's outputs still what it would make now?

Every artefact's manifest records what it was made from: the step's version, its parameters, the versions of its
inputs. A node is fresh if all its outputs are committed and their records say what would be recorded now.
"""

import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kedro.io import CatalogProtocol
from kedro.pipeline.node import Node
from pydantic import BaseModel

from selfie.config.parameters import MODEL, flatten
from selfie.config.strict import NO_EFFECT
from selfie.datasets import WorkspaceDataset
from selfie.datasets.models import folder_version
from selfie.storage.commit import is_committed
from selfie.storage.provenance import Artefact, Versioned, short_hash

PARAMETERS = "params:"
VOLATILE = {"timings"}  # measured while the run goes on: no reason to repeat anything
SHOWN_REASONS = 3
MIB = 2**20


@dataclass(frozen=True)
class State:
    """How it stands with one node: ``reasons`` say why it is to run, ``partial`` what is committed of it.

    ``superseded`` is unfinished work from other inputs, parameters or another step version that is kept.
    """

    status: Literal["done", "stale", "missing"]
    reasons: tuple[str, ...] = ()
    partial: str | None = None
    superseded: tuple[str, ...] = ()

    def why(self) -> str:
        """The reasons in one line."""
        more = len(self.reasons) - SHOWN_REASONS
        return "; ".join(self.reasons[:SHOWN_REASONS]) + (f"; and {more} more" if more > 0 else "")


def provenance_of(node: Node, catalog: CatalogProtocol) -> dict[str, Any]:
    """What the node's outputs would be made from now: ``version``, ``parameters`` and ``inputs`` (name → value)."""
    parameters: dict[str, Any] = {}
    inputs: dict[str, str | None] = {}
    for name in node.inputs:
        if name == "parameters" or name.startswith(PARAMETERS):
            value = catalog.load(name)
            parameters[name.removeprefix(PARAMETERS)] = _effective(value) if isinstance(value, BaseModel) else value
        elif name not in VOLATILE and isinstance(dataset := catalog.get(name), Versioned):
            inputs[name] = dataset.version()
    return {"version": step_version(node.func), "parameters": flatten(parameters), "inputs": inputs}


def step_version(function: Callable[..., Any]) -> int:
    """From ``STEP_VERSIONS`` of the function's module, 1 where it has none; see :mod:`selfie.pipelines`."""
    function = inspect.unwrap(function)  # split_prompts is a partial
    versions = getattr(sys.modules[function.__module__], "STEP_VERSIONS", {})
    return versions.get(getattr(function, "__name__", None), 1)


def examine(node: Node, catalog: CatalogProtocol) -> State:
    """Compares what is there with what would be made."""
    provenance = provenance_of(node, catalog)
    outputs = {name: catalog.get(name) for name in node.outputs}
    missing = [name for name, dataset in outputs.items() if dataset is None or not dataset.exists()]
    workspace = workspace_of(node, catalog, provenance)
    partial = progress(workspace[1]) if workspace else None
    kept = tuple(superseded(workspace[1]).values()) if workspace else ()
    if missing:
        return State("missing", tuple(f"{name} is not there" for name in missing), partial, kept)
    reasons: dict[str, None] = {}
    for name, dataset in outputs.items():
        record = dataset.made_from() if isinstance(dataset, Artefact) else None
        if record is None:
            reasons[f"nothing is recorded of how {name} was made"] = None
        else:
            reasons |= dict.fromkeys(_differences(record, provenance))
        part = dataset.missing_part() if isinstance(dataset, Artefact) else None
        if part is not None:
            reasons[f"{name}: {part}"] = None
    if not reasons:
        return State("done", superseded=kept)
    return State("stale", tuple(reasons), partial, kept)


def workspace_of(node: Node, catalog: CatalogProtocol, provenance: Mapping[str, Any]) -> tuple[str, Path] | None:
    """The name of the node's workspace, and the folder in it for work from this provenance; None if it has none."""
    for name in node.inputs:
        dataset = catalog.get(name)
        if isinstance(dataset, WorkspaceDataset):
            return name, dataset.path / node.name.rsplit(".", 1)[-1] / short_hash(provenance)
    return None


def progress(workspace: Path) -> str | None:
    """Unfinished work of a killed run: ``3/12 shards``, ``40/120 optimiser steps``; None where there is nothing."""
    parts = []
    for plan in sorted(workspace.glob("**/shards-of-*")):
        done = len(list(plan.parent.glob("shard-*")))
        parts.append(f"{done}/{plan.name.removeprefix('shards-of-')} shards")
    checkpoints = [folder for folder in workspace.glob("checkpoint-*") if is_committed(folder)]
    states = [json.loads((folder / "trainer_state.json").read_text()) for folder in checkpoints]
    if states:
        last = max(states, key=lambda state: state["global_step"])
        parts.append(f"{last['global_step']}/{last['max_steps']} optimiser steps")
    return ", ".join(parts) or None


def superseded(workspace: Path) -> dict[Path, str]:
    """Workspaces of the same node that hold work from another provenance: what there is of it, and how large it is."""
    found = {}
    for other in sorted(workspace.parent.glob("*")):
        there = progress(other) if other != workspace else None
        if there is not None:
            size = sum(file.stat().st_size for file in other.rglob("*") if file.is_file())
            found[other] = f"{there}, {size / MIB:,.1f} MiB"
    return found


def _differences(record: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    reasons = []
    if record.get("version") != now["version"]:
        reasons.append(f"the step's version was {record.get('version', 'not recorded')}, is {now['version']}")
    for name in _changed(record["parameters"], now["parameters"]):
        before, after = (values["parameters"].get(name, "not set") for values in (record, now))
        reasons.append(f"{name} was {before}, is {after}")
    reasons += [f"{name} has changed" for name in _changed(record["inputs"], now["inputs"])]
    return reasons


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def _effective(group: BaseModel) -> dict[str, Any]:
    """The parameters of a group that decide a result; a model's name with the version of what lies in its folder."""
    values = {}
    for name, field in type(group).model_fields.items():
        if NO_EFFECT in field.metadata:
            continue
        value = getattr(group, name)
        if MODEL in field.metadata and value and (version := folder_version(Path(value))):
            value = f"{value} (files {version})"
        values[name] = _effective(value) if isinstance(value, BaseModel) else value
    return values
