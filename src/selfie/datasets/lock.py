"""A run's lock in the catalog."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from selfie.storage.locks import RunLock


class LockDataset(AbstractDataset[None, RunLock]):
    """A lock; loading it does not take it."""

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None):
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> RunLock:
        return RunLock(self._filepath)

    def save(self, data: None) -> None:
        raise DatasetError("a lock is taken, not written")

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
