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
        versions = [_fingerprint(new)] + ([_fingerprint(path)] if path.exists() else [])
        with _temporary(new.with_name(new.name + ".manifest")) as manifest:
            manifest.write_text(json.dumps({path.name: versions}))
            _flush(new)
            _flush(manifest)
            # The manifest goes first and knows both versions, so whichever a crash leaves verifies.
            manifest.replace(_manifest_of(path))
            new.replace(path)
            _flush(path.parent)


def commit_text(path: Path, text: str) -> None:
    """The same for a text, in UTF-8."""

    def write(new: Path) -> None:
        new.write_text(text, encoding="utf-8")

    commit_file(path, write)


def commit_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Runs ``write`` on a temporary folder beside ``path`` and puts it in the place of ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _restore(path)
    with _temporary(path.with_name(f".{path.name}.{os.getpid()}")) as new:
        new.mkdir()
        write(new)
        files = sorted(file for file in new.rglob("*") if file.is_file())
        listed = {str(file.relative_to(new)): [_fingerprint(file)] for file in files}
        (new / MANIFEST).write_text(json.dumps(listed, indent=1))
        for file in [*files, new / MANIFEST, new]:
            _flush(file)
        _remove(_retired(path))
        if path.exists():
            path.replace(_retired(path))
        try:
            new.replace(path)
        finally:
            _restore(path)
        _flush(path.parent)
        _remove(_retired(path))


def is_committed(path: Path) -> bool:
    """Whether file or folder is there with all that its manifest lists, by size; reads no contents."""
    try:
        return all(
            file.stat().st_size in [version["bytes"] for version in versions] for file, versions in _entries(path)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def verify(path: Path) -> None:
    """Raises DatasetError where file or folder differs from its manifest, naming the file."""
    try:
        for file, versions in _entries(path):
            if _fingerprint(file) not in versions:
                raise DatasetError(f"{file} is damaged: it differs from its manifest. Delete {path} and run again.")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} is not complete ({error}). Run the pipeline that makes it.") from error


def _entries(path: Path) -> list[tuple[Path, list[dict]]]:
    """Files with the fingerprints that they may have."""
    _restore(path)
    if path.is_dir():
        listed = json.loads((path / MANIFEST).read_text())
        return [(path / name, versions) for name, versions in listed.items()]
    return [(path, json.loads(_manifest_of(path).read_text())[path.name])]


def _manifest_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.manifest")


def _retired(path: Path) -> Path:
    """Where a folder's old version waits while the new one takes its place."""
    return path.with_name(f".{path.name}.old")


def _restore(path: Path) -> None:
    """After a crash between the two renames, the old version takes its place again."""
    if not path.exists() and _retired(path).exists():
        _retired(path).replace(path)


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
