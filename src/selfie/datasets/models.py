"""Models in the catalog: the user's, and the checkpoints that training writes. Both load as handles."""

import json
import shutil
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import JSONPreview

from selfie.models.checkpoint import Checkpoint
from selfie.models.gguf import find_packaged_gguf
from selfie.storage.commit import MANIFEST, commit_folder, committed_version, is_committed, verify
from selfie.storage.provenance import Artefact, short_hash


class PackagedGGUFDataset(AbstractDataset[None, Path]):
    """The GGUF file that an installed Python package carries."""

    def __init__(self, package: str, metadata: dict[str, Any] | None = None):
        self._package = package
        self.metadata = metadata

    def load(self) -> Path:
        return find_packaged_gguf(self._package)

    def save(self, data: None) -> None:
        raise DatasetError("a packaged model is never written")

    def version(self) -> str:
        return _listing(self.load().parent, [self.load()])

    def _describe(self) -> dict[str, Any]:
        return {"package": self._package}


class CheckpointDataset(Artefact, AbstractDataset[Checkpoint, Checkpoint]):
    """A causal language model with its tokenizer: the user's, or one that the project wrote.

    Args:
        filepath: a local folder. What a node saves is moved there and committed.
        hub: instead of a folder, a repository on the Hugging Face hub; it is never written.
        revision: the hub commit, pinned.
    """

    def __init__(
        self,
        filepath: str | None = None,
        hub: str | None = None,
        revision: str | None = None,
        metadata: dict[str, Any] | None = None,
    ):
        if (filepath is None) == (hub is None):
            raise DatasetError("give either `filepath` or `hub`")
        if hub is not None and revision is None:
            raise DatasetError(f"`hub: {hub}` needs a `revision` (a commit), so that runs can be repeated")
        self._folder = Path(filepath) if filepath else None
        self._filepath = Path(filepath or "")
        self._checkpoint = Checkpoint(filepath or str(hub), revision)
        self.metadata = metadata

    def load(self) -> Checkpoint:
        if self._folder and (self._folder / MANIFEST).exists():
            verify(self._folder)
        self._checkpoint.check_files()
        return self._checkpoint

    def save(self, data: Checkpoint) -> None:
        if self._folder is None:
            raise DatasetError(f"{self._checkpoint.source} is on the hub and is never written")
        commit_folder(self._folder, lambda folder: _move_contents(Path(data.source), folder), self.provenance)

    def version(self) -> str | None:
        """The project's by its manifest, the hub's by its revision, a user's folder by its files' sizes and times."""
        if self._folder is None:
            return f"{self._checkpoint.source}@{self._checkpoint.revision}"
        if not self._folder.exists() or (self._folder / MANIFEST).exists():
            return super().version()
        return folder_version(self._folder)

    def preview(self) -> JSONPreview:
        """For kedro-viz: where the weights are; of those that the project wrote, the files and what they came from."""
        shown: dict[str, Any] = {"source": self._checkpoint.source}
        if self._checkpoint.revision:
            shown["revision"] = self._checkpoint.revision
        present = committed_version(self._folder) if self._folder else None
        if present is not None:
            shown |= {"manifest": present["files"], "made_from": present["provenance"]}
        return JSONPreview(json.dumps(shown))

    def _exists(self) -> bool:
        if self._folder and (self._folder / MANIFEST).exists():
            return is_committed(self._folder)
        return self._folder is None or self._folder.exists()

    def _describe(self) -> dict[str, Any]:
        return {"source": self._checkpoint.source, "revision": self._checkpoint.revision}


def folder_version(folder: Path) -> str | None:
    """Of a model's folder that is the user's; None where there is none."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return _listing(folder, files) if folder.is_dir() else None


def _listing(folder: Path, files: list[Path]) -> str:
    """Names, sizes and times of change: hashing what the project did not write could take minutes."""
    stats = {str(file.relative_to(folder)): file.stat() for file in files}
    return short_hash({name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()})


def _move_contents(source: Path, target: Path) -> None:
    for item in source.iterdir():
        shutil.move(item, target / item.name)
    source.rmdir()
