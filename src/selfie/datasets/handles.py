"""Datasets that load as what works on a local path: a lock, a cache, a folder to work in."""

from pathlib import Path
from typing import Any, TypeVar

from kedro.io import AbstractDataset, DatasetError

from selfie.storage.annotation_cache import AnnotationCache
from selfie.storage.commit import file_sha256
from selfie.storage.locks import RunLock
from selfie.storage.provenance import short_hash

Handle = TypeVar("Handle")


class HandleDataset(AbstractDataset[None, Handle]):
    """What lies at ``filepath`` is written by those who load the handle, and never saved."""

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None):
        self.path = Path(filepath)
        self.metadata = metadata

    def save(self, data: None) -> None:
        raise DatasetError(f"{self.path} is written by those who load it")

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self.path)}


class LockDataset(HandleDataset[RunLock]):
    """A run's lock; loading it does not take it."""

    def load(self) -> RunLock:
        return RunLock(self.path)


class AnnotationCacheDataset(HandleDataset[AnnotationCache]):
    """A folder of judges' verdicts, shared by all experiments."""

    def load(self) -> AnnotationCache:
        return AnnotationCache(self.path)


class WorkspaceDataset(HandleDataset[Path]):
    """A scratch folder on the checkpoints' disk: shards, training checkpoints, what is about to be committed.

    In a run each node gets a folder of its own in it, named by what it works from; see
    :class:`selfie.app.hooks.ProvenanceHooks`.
    """

    def load(self) -> Path:
        self.path.mkdir(parents=True, exist_ok=True)
        return self.path


class LabelsDataset(HandleDataset[Path]):
    """A folder with a file of labels for each annotator, to which ``selfie label`` appends."""

    def load(self) -> Path:
        return self.path

    def version(self) -> str | None:
        """Of all files' bytes."""
        files = {file.name: file_sha256(file) for file in sorted(self.path.glob("*.jsonl"))}
        return short_hash(files) if files else None
