"""The cache of judges' verdicts in the catalog."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from selfie.storage.annotation_cache import AnnotationCache


class AnnotationCacheDataset(AbstractDataset[None, AnnotationCache]):
    """A folder of verdicts, shared by all experiments. It loads as an :class:`AnnotationCache`, which writes to it."""

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None):
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> AnnotationCache:
        return AnnotationCache(self._filepath)

    def save(self, data: None) -> None:
        raise DatasetError("a cache is written by those who use it")

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
