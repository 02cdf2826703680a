"""Datasets of the export: manifests of other artefacts, and the exported folder."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from selfie.datasets.models import CheckpointDataset
from selfie.errors import StorageError
from selfie.models.checkpoint import Checkpoint
from selfie.storage.commit import MANIFEST, committed_version, forget_provenance, verify
from selfie.storage.provenance import Manifest, short_hash


class ManifestDataset(AbstractDataset[None, Manifest]):
    """Which version of an artefact is there and what it was made from, without its contents.

    Args:
        filepath: of the artefact, a file or a folder.
    """

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None):
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> Manifest:
        present = committed_version(self._filepath)
        if present is None:
            raise DatasetError(f"{self._filepath} is not complete. Run the pipeline that makes it.")
        return {"version": short_hash(present["files"]), "made_from": present["provenance"]}

    def save(self, data: None) -> None:
        raise DatasetError("a manifest is written with its artefact")

    def version(self) -> str | None:
        return self.load()["version"] if self._exists() else None

    def _exists(self) -> bool:
        return committed_version(self._filepath) is not None

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


class ExportDataset(CheckpointDataset):
    """A folder for use elsewhere: written only where nothing is, or an earlier export as it was written."""

    def check_free(self) -> None:
        """Raises StorageError where the folder holds anything that no export has written, or that was changed since."""
        folder = self._filepath
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return
        present = committed_version(folder) or {"files": {}, "provenance": None}
        there = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
        record = (present["provenance"] or {}).get("parameters", {})
        if "export.dtype" not in record or there - {MANIFEST} != set(present["files"]):
            problem = "it holds something that is no earlier export; nothing was written or deleted"
            raise StorageError(str(folder), problem, "move it away, or name another folder in the catalog")
        try:
            verify(folder)
        except DatasetError as error:
            problem = (
                f"the earlier export was changed ({str(error).partition('. ')[0]}); nothing was written or deleted"
            )
            raise StorageError(str(folder), problem, "move it away, or name another folder in the catalog") from error

    def forget(self) -> None:
        """The next run makes it again; the rest of the record goes on saying that it is an export."""
        forget_provenance(self._filepath, "version")

    def save(self, data: Checkpoint) -> None:
        self.check_free()
        super().save(data)
