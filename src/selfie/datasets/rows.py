"""Rows between nodes: a Hugging Face dataset on disk, memory-mapped on load."""

import json
from pathlib import Path
from typing import Any

from datasets import Dataset
from kedro.io import AbstractDataset
from kedro_datasets._typing import TablePreview

from selfie.storage.provenance import Artefact
from selfie.storage.rows import load_rows, save_rows


class RowsDataset(Artefact, AbstractDataset[Dataset, Dataset]):
    """A folder of Arrow files.

    .. code-block:: yaml

        "iteration_{k}.pairs":
          type: selfie.datasets.RowsDataset
          filepath: data/05_model_input/demo/iteration_{k}/pairs
    """

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None):
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> Dataset:
        return load_rows(self._filepath)

    def save(self, data: Dataset) -> None:
        save_rows(self._filepath, data, self.provenance)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}

    def preview(self, nrows: int = 20, columns: list[str] | None = None) -> TablePreview:
        """The first rows for kedro-viz: these columns, as far as there are such; else all but lists of token ids."""
        rows = self.load()
        rows = rows.select(range(min(nrows, len(rows))))
        shown = [name for name in columns or rows.column_names if name in rows.column_names]
        frame = rows.select_columns([name for name in shown if not name.endswith("_ids")]).to_pandas()
        return TablePreview(json.loads(frame.to_json(orient="split", index=False, double_precision=4)))
