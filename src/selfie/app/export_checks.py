"""Checks before an export: all that it needs is there, and the folder is free."""

from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from selfie.app.freshness import examine
from selfie.app.policies import policy_folder, trained_policies
from selfie.config.export import ExportParameters
from selfie.datasets import ApiKeyDataset, ExportDataset, WorkspaceDataset
from selfie.errors import DataError, ModelError
from selfie.export.gguf_file import check_gguf
from selfie.export.hub import check_hub
from selfie.models.checkpoint import Checkpoint


def check_export(pipeline: Pipeline, catalog: CatalogProtocol, export: ExportParameters) -> None:
    """Reads manifests and configuration files, and asks the hub; pipelines without an export pass.

    Raises:
        ConfigurationError: the token may not write to the hub's repository, or there is none.
        ModelError: the policy is not there, not complete, or can't be written as GGUF; the hub can't be reached.
        StorageError: the folder holds something else than an earlier export.
        DataError: what the model card is written from is not there.
    """
    for name in sorted(pipeline.all_outputs()):
        dataset = catalog.get(name)
        if isinstance(dataset, ExportDataset):
            policy = name.removesuffix("_export")
            if policy in pipeline.inputs():
                _check_policy(policy, catalog, export)
            dataset.check_free()
            _check_sources(pipeline, catalog)
    if export.push_to_hub is None or "hub_token" not in pipeline.inputs():
        return
    if any(examine(node, catalog).status != "done" for node in pipeline.nodes):
        check_hub(export.push_to_hub, catalog.load("hub_token"))


def _check_policy(policy: str, catalog: CatalogProtocol, export: ExportParameters) -> None:
    folder, there = policy_folder(policy, catalog), trained_policies(catalog)
    if policy not in there:
        remedy = "train it with `kedro run`"
        if there:
            remedy += f", or choose one that is there with --params export.policy=NAME: {', '.join(there)}"
        raise ModelError(policy, "it is not complete" if folder.exists() else "it is not there", remedy)
    if export.gguf is not None:
        check_gguf(Checkpoint(str(folder)))


def _check_sources(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    data = sorted(name for name in pipeline.inputs() if not name.startswith("params:"))
    sources = [name for name in data if not isinstance(catalog.get(name), WorkspaceDataset | ApiKeyDataset)]
    missing = [name.removesuffix("_manifest") for name in sources if not catalog.exists(name)]
    if missing:
        raise DataError(
            ", ".join(dict.fromkeys(missing)),
            "not there, and the model card is written from it",
            "let `kedro run` end first; for a policy before the last one, with --params iterations=NUMBER",
        )
