"""Is what a node made still what it would make now?

Every artefact's manifest records what it was made from: the code that the node reaches, its parameters, the versions
of its inputs. A node is fresh if all its outputs are committed and their records say what would be recorded now.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kedro.io import CatalogProtocol
from kedro.pipeline.node import Node

from selfie.app.code_version import code_version
from selfie.app.parameter_use import PREFIX, parameters_used
from selfie.datasets import WorkspaceDataset
from selfie.storage.commit import is_committed
from selfie.storage.provenance import Artefact, Versioned, short_hash

VOLATILE = {"timings"}  # measured while the run goes on: no reason to repeat anything
SHOWN_REASONS = 3
MIB = 2**20


@dataclass(frozen=True)
class State:
    """How it stands with one node: ``reasons`` say why it is to run, ``partial`` what is committed of it.

    ``superseded`` is unfinished work from other inputs, parameters or code that is kept.
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
    """What the node's outputs would be made from now: ``code``, ``parameters``, ``inputs``, each name → value."""
    inputs: dict[str, str | None] = {}
    for name in node.inputs:
        if name in VOLATILE or name == "parameters" or name.startswith(PREFIX):
            continue
        dataset = catalog.get(name)
        if isinstance(dataset, Versioned):
            inputs[name] = dataset.version()
    return {"code": code_version(node.func), "parameters": parameters_used(node, catalog.load), "inputs": inputs}


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
        lack = dataset.lack() if isinstance(dataset, Artefact) else None
        if lack is not None:
            reasons[f"{name}: {lack}"] = None
    if not reasons:
        return State("done", superseded=kept)
    return State("stale", tuple(reasons), partial, kept)


def workspace_of(node: Node, catalog: CatalogProtocol, provenance: Mapping[str, Any]) -> tuple[str, Path] | None:
    """The name of the node's workspace, and the folder in it for work from this provenance; None if it has none."""
    for name in node.inputs:
        dataset = catalog.get(name)
        if isinstance(dataset, WorkspaceDataset):
            return name, dataset.folder / node.name.rsplit(".", 1)[-1] / short_hash(provenance)
    return None


def progress(workspace: Path) -> str | None:
    """What a killed run has left: ``3/12 shards``, ``40/120 optimiser steps``; None where there is nothing."""
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
    for name in _changed(record["parameters"], now["parameters"]):
        before, after = (values["parameters"].get(name, "not set") for values in (record, now))
        reasons.append(f"{name} was {before}, is {after}")
    reasons += [f"{name} has changed" for name in _changed(record["inputs"], now["inputs"])]
    modules = _changed(record["code"], now["code"])
    if modules:
        reasons.append(f"the code has changed ({', '.join(modules)})")
    return reasons


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
