"""Nodes of the export pipeline."""

from pathlib import Path
from typing import Any

from datasets import Dataset
from pydantic import SecretStr

from selfie.config.export import ExportParameters
from selfie.export.base_model import base_model
from selfie.export.card import model_card
from selfie.export.folder import write_folder
from selfie.export.hub import push
from selfie.models.checkpoint import Checkpoint
from selfie.reporting.summary import policy_name
from selfie.storage.provenance import Manifest

STEP_VERSIONS = {
    "write_card": 1,
    "export_policy": 1,
    "push_policy": 1,
}


def write_card(
    experiment: str,
    export: ExportParameters,
    initial_model: Checkpoint,
    summary: dict[str, Any],
    **artefacts: Dataset | list | Manifest,
) -> str:
    """The model card; ``artefacts``: what the policies were made from, by name, rows or ``NAME_manifest``."""
    manifests: Any = {k.removesuffix("_manifest"): v for k, v in artefacts.items() if k.endswith("_manifest")}
    rows = {name: len(value) for name, value in artefacts.items() if not name.endswith("_manifest")}
    namespaces = [name.removesuffix(".pairs") for name in rows if name.endswith(".pairs")]
    policies = {namespace: policy_name(namespace) for namespace in namespaces}
    name = f"{experiment}-{policies[namespaces[-1]]}"
    return model_card(name, policies, base_model(initial_model, export), export, summary, rows, manifests)


def export_policy(
    policy: Checkpoint,
    initial_model: Checkpoint,
    card: str,
    workspace: Path,
    experiment: str,
    export: ExportParameters,
    name: str,
) -> Checkpoint:
    """The folder that works elsewhere; ``name``: of the policy."""
    return write_folder(policy, initial_model, card, f"{experiment}-{name}", export, workspace / "model")


def push_policy(exported: Checkpoint, repository: str, token: SecretStr) -> dict[str, str]:
    """The exported folder on the hub; the commit that it became."""
    return push(Path(exported.source), repository, token)
