"""Humans' labels in the catalog."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from selfie.storage.commit import file_sha256
from selfie.storage.provenance import short_hash


class LabelsDataset(AbstractDataset[None, Path]):
    """A folder with a file of labels for each annotator; it loads as its path, and ``selfie label`` writes there."""

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None):
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> Path:
        return self._filepath

    def save(self, data: None) -> None:
        raise DatasetError("labels are written by `selfie label`")

    def version(self) -> str | None:
        """Of all files' bytes."""
        files = {file.name: file_sha256(file) for file in sorted(self._filepath.glob("*.jsonl"))}
        return short_hash(files) if files else None

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
