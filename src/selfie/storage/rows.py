"""Rows on disk: a Hugging Face dataset as a committed folder of Arrow files, memory-mapped on load."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset, disable_progress_bars, load_from_disk

from selfie.storage.commit import commit_folder, verify

disable_progress_bars()


def save_rows(path: Path, rows: Dataset, provenance: Mapping[str, Any] | None = None) -> None:
    """Commits the rows in the place of ``path``."""
    commit_folder(path, lambda folder: rows.save_to_disk(str(folder)), provenance)


def load_rows(path: Path) -> Dataset:
    """The committed rows.

    Raises:
        DatasetError: they are not all there, or damaged.
    """
    verify(path)
    return load_from_disk(str(path))
