"""Models in the catalog: the user's, and the checkpoints that training writes. Both load as handles."""

import shutil
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from selfie.checkpoints import Checkpoint
from selfie.conversion import find_packaged_gguf
from selfie.datasets.commit import commit_folder, is_committed, verify


class PretrainedDataset(AbstractDataset[None, Checkpoint]):
    """A model that the user brings: a local folder, or a repository on the Hugging Face hub at a pinned commit."""

    def __init__(self, model: str, revision: str | None = None, metadata: dict[str, Any] | None = None):
        self._checkpoint = Checkpoint(model, revision)
        self.metadata = metadata

    def load(self) -> Checkpoint:
        self._checkpoint.check_files()
        return self._checkpoint

    def save(self, data: None) -> None:
        raise DatasetError(f"{self._checkpoint.source} is the user's model and is never written")

    def _exists(self) -> bool:
        return Path(self._checkpoint.source).exists() or self._checkpoint.revision is not None

    def _describe(self) -> dict[str, Any]:
        return {"model": self._checkpoint.source, "revision": self._checkpoint.revision}


class PackagedGGUFDataset(AbstractDataset[None, Path]):
    """The GGUF file that an installed Python package carries."""

    def __init__(self, package: str, metadata: dict[str, Any] | None = None):
        self._package = package
        self.metadata = metadata

    def load(self) -> Path:
        return find_packaged_gguf(self._package)

    def save(self, data: None) -> None:
        raise DatasetError("a packaged model is never written")

    def _describe(self) -> dict[str, Any]:
        return {"package": self._package}


class PolicyDataset(AbstractDataset[Checkpoint, Checkpoint]):
    """A checkpoint that the project writes: the node's folder is moved into place and committed."""

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None):
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> Checkpoint:
        verify(self._filepath)
        return Checkpoint(str(self._filepath))

    def save(self, data: Checkpoint) -> None:
        commit_folder(self._filepath, lambda folder: _move_contents(Path(data.source), folder))

    def _exists(self) -> bool:
        return is_committed(self._filepath)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


def _move_contents(source: Path, target: Path) -> None:
    for item in source.iterdir():
        shutil.move(item, target / item.name)
    source.rmdir()


class WorkspaceDataset(AbstractDataset[None, Path]):
    """A scratch folder on the same disk as the checkpoints, for what a training writes before it is committed."""

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None):
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> Path:
        self._filepath.mkdir(parents=True, exist_ok=True)
        return self._filepath

    def save(self, data: None) -> None:
        raise DatasetError("a workspace is written by the node that loads it")

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
