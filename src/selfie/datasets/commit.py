"""The commit protocol of everything that the project writes.

What is written goes to a temporary neighbour, is flushed to the disk, and takes its place by a rename; a manifest with
sizes and SHA-256 sums comes with it. An artefact exists only if its manifest verifies, so a crash at any moment leaves
either the old version or the new one, never half of either.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kedro.io import DatasetError

MANIFEST = "manifest.json"


def commit_file(path: Path, write: Callable[[Path], None]) -> None:
    """Runs ``write`` on a temporary file in the same folder and puts it in the place of ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays: writers choose the format by it.
    with _temporary(path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")) as new:
        write(new)
        manifest = new.with_name(new.name + ".manifest")
        manifest.write_text(json.dumps({path.name: _fingerprint(new)}))
        _flush(new)
        _flush(manifest)
        new.replace(path)
        manifest.replace(_manifest_of(path))
        _flush(path.parent)


def commit_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Runs ``write`` on a temporary folder beside ``path`` and puts it in the place of ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(path.with_name(f".{path.name}.{os.getpid()}")) as new, _temporary(_retired(path)) as old:
        new.mkdir()
        write(new)
        files = sorted(file for file in new.rglob("*") if file.is_file())
        (new / MANIFEST).write_text(
            json.dumps({str(file.relative_to(new)): _fingerprint(file) for file in files}, indent=1)
        )
        for file in [*files, new / MANIFEST, new]:
            _flush(file)
        if path.exists():
            path.replace(old)
        new.replace(path)
        _flush(path.parent)


def is_committed(path: Path) -> bool:
    """Whether file or folder is there with all that its manifest lists, by size; reads no contents."""
    try:
        return all(file.stat().st_size == entry["bytes"] for file, entry in _entries(path))
    except (OSError, ValueError, KeyError):
        return False


def verify(path: Path) -> None:
    """Raises DatasetError where file or folder differs from its manifest, naming the file."""
    try:
        for file, entry in _entries(path):
            if _fingerprint(file) != entry:
                raise DatasetError(f"{file} is damaged: it differs from its manifest. Delete {path} and run again.")
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(f"{path} is not complete ({error}). Run the pipeline that makes it.") from error


def _entries(path: Path) -> list[tuple[Path, dict]]:
    if path.is_dir():
        listed = json.loads((path / MANIFEST).read_text())
        return [(path / name, entry) for name, entry in listed.items()]
    return [(path, json.loads(_manifest_of(path).read_text())[path.name])]


def _manifest_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.manifest")


def _retired(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.old")


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    _remove(path)
    try:
        yield path
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _fingerprint(file: Path) -> dict[str, int | str]:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"bytes": file.stat().st_size, "sha256": digest}


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
