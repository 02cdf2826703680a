"""Any single-file Kedro dataset, written by the commit protocol."""

from copy import deepcopy
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from selfie.storage.commit import commit_file, verify
from selfie.storage.provenance import Artefact


class CommittedDataset(Artefact, AbstractDataset[Any, Any]):
    """Wraps a dataset that saves to one local file.

    .. code-block:: yaml

        summary:
          type: selfie.datasets.CommittedDataset
          filepath: data/08_reporting/demo/summary.json
          dataset: {type: json.JSONDataset}
    """

    def __init__(self, filepath: str, dataset: dict[str, Any], metadata: dict[str, Any] | None = None):
        self._filepath = Path(filepath)
        self._dataset = dataset
        self.metadata = metadata
        inner = self._at(self._filepath)
        if hasattr(inner, "preview"):
            self.preview = inner.preview  # kedro-viz asks the dataset that it finds in the catalog

    def _at(self, path: Path) -> AbstractDataset:
        return AbstractDataset.from_config(self._filepath.name, {**deepcopy(self._dataset), "filepath": str(path)})

    def load(self) -> Any:
        verify(self._filepath)
        return self._at(self._filepath).load()

    def save(self, data: Any) -> None:
        commit_file(self._filepath, lambda path: self._at(path).save(data), self.provenance)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "dataset": self._dataset.get("type")}


class OptionalDataset(CommittedDataset):
    """What the report shows where some pipeline outside the loop has made it; else it loads as an empty dictionary."""

    def load(self) -> Any:
        return super().load() if self._exists() else {}
