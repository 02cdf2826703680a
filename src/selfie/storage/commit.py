"""The commit protocol of everything that the project writes.

What is written goes to a temporary neighbour, is flushed to the disk, and takes its place by a rename; a manifest with
sizes, SHA-256 sums and what it was made from comes with it. An artefact exists only if its manifest verifies, so a
crash at any moment leaves either the old version or the new one, never half of either.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

MANIFEST = "manifest.json"
Version = dict[str, Any]
"""One version of an artefact: ``files`` (name → bytes, sha256) and ``provenance`` (what it was made from, or None)."""
followers: list[Callable[[Path], None]] = []
"""Called with the path of whatever this process commits; see :mod:`selfie.storage.remote`."""


def commit_file(path: Path, write: Callable[[Path], None], provenance: Mapping[str, Any] | None = None) -> None:
    """Runs ``write`` on a temporary file in the same folder and puts it in the place of ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    # The suffix stays: writers choose the format by it.
    with _temporary(path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")) as new:
        write(new)
        version = {"files": {path.name: fingerprint(new)}, "provenance": provenance}
        flush(new)
        # The manifest goes first and knows both versions, so whichever a crash leaves verifies.
        _write_manifest(_manifest_of(path), [version, *_present(path)])
        new.replace(path)
        flush(path.parent)
    announce(path)


def commit_text(path: Path, text: str) -> None:
    """The same for a text, in UTF-8."""

    def write(new: Path) -> None:
        new.write_text(text, encoding="utf-8")

    commit_file(path, write)


def commit_folder(path: Path, write: Callable[[Path], None], provenance: Mapping[str, Any] | None = None) -> None:
    """Runs ``write`` on a temporary folder beside ``path`` and puts it in the place of ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _restore(path)
    _sweep(path)
    with _temporary(path.with_name(f".{path.name}.{os.getpid()}")) as new:
        new.mkdir()
        write(new)
        _seal(new, provenance)
        _remove(_retired(path))
        if path.exists():
            path.replace(_retired(path))
        try:
            new.replace(path)
        finally:
            _restore(path)
        flush(path.parent)
        _remove(_retired(path))
    announce(path)


def seal_folder(path: Path, provenance: Mapping[str, Any] | None = None) -> None:
    """Flushes a folder that a library has written in place, and adds the manifest: from then on it exists."""
    _seal(path, provenance)
    announce(path)


def announce(path: Path) -> None:
    """Tells the followers what was committed, by this process or by one that works for it."""
    for follow in followers:
        follow(path)


def _seal(path: Path, provenance: Mapping[str, Any] | None) -> None:
    files = sorted(file for file in path.rglob("*") if file.is_file() and file != path / MANIFEST)
    for file in files:
        flush(file)
    listed = {str(file.relative_to(path)): fingerprint(file) for file in files}
    _write_manifest(path / MANIFEST, [{"files": listed, "provenance": provenance}])


def is_committed(path: Path) -> bool:
    """Whether file or folder is there with all that its manifest lists, by size; reads no contents."""
    try:
        return any(_has_sizes(path, version) for version in _versions(path))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def verify(path: Path) -> None:
    """Raises DatasetError where :func:`damage` finds some."""
    found = damage(path)
    if found is not None:
        from kedro.io import DatasetError  # here, since training's processes do without Kedro

        raise DatasetError(found)


def damage(path: Path) -> str | None:
    """How file or folder differs from its manifest, naming the file; None where it doesn't."""
    try:
        for name in _versions(path)[0]["files"]:
            file = path / name if path.is_dir() else path
            if fingerprint(file) not in [version["files"][name] for version in _versions(path)]:
                return f"{file} is damaged: it differs from its manifest. Delete {path} and run again."
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        return f"{path} is not complete ({error}). Run the pipeline that makes it."
    return None


def committed_version(path: Path) -> Version | None:
    """The version that is there, or None where nothing is committed. Folders are taken at their manifest's word."""
    if not is_committed(path):
        return None
    return next(iter(_present(path)), None)


def forget_provenance(path: Path, author: str | None = None) -> None:
    """Drops the record of what the artefact was made from: it stays, and the next run makes it again.

    With ``author`` that is true of the part that this one added.
    """
    present = committed_version(path)
    if present is not None:
        manifest = path / MANIFEST if path.is_dir() else _manifest_of(path)
        kept = None if author is None else {**(present["provenance"] or {}), author: None}
        _write_manifest(manifest, [{**present, "provenance": kept}])
        announce(path)


def set_aside(path: Path) -> Path:
    """Moves what is torn or damaged out of the way, beside its place, and returns where it lies now."""
    aside = path.with_name(f".torn-{path.name}")
    _remove(aside)
    path.replace(aside)
    return aside


def _present(path: Path) -> list[Version]:
    """The listed version whose bytes are there: none, or one."""
    try:
        versions = _versions(path)
        if path.is_dir():
            return versions[:1]
        there = fingerprint(path)
        return [version for version in versions if version["files"][path.name] == there][:1]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _versions(path: Path) -> list[Version]:
    _restore(path)
    manifest = path / MANIFEST if path.is_dir() else _manifest_of(path)
    versions: list[Version] = json.loads(manifest.read_text())["versions"]
    return versions


def _has_sizes(path: Path, version: Version) -> bool:
    return all(
        (path / name if path.is_dir() else path).stat().st_size == listed["bytes"]
        for name, listed in version["files"].items()
    )


def _write_manifest(manifest: Path, versions: list[Version]) -> None:
    with _temporary(manifest.with_name(f"{manifest.name}.{os.getpid()}")) as new:
        new.write_text(json.dumps({"versions": versions}, indent=1))
        flush(new)
        new.replace(manifest)
        flush(manifest.parent)


def _manifest_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.manifest")


def _retired(path: Path) -> Path:
    """Where a folder's old version waits while the new one takes its place."""
    return path.with_name(f".{path.name}.old")


def _restore(path: Path) -> None:
    """After a crash between the two renames, the old version takes its place again."""
    if not path.exists() and _retired(path).exists():
        _retired(path).replace(path)


def _sweep(path: Path) -> None:
    """Removes what a killed process was writing in place of ``path``."""
    for left in path.parent.glob(f".{path.stem}.*"):
        number = left.name.removeprefix(f".{path.stem}.").split(".")[0]
        if number.isdigit() and not psutil.pid_exists(int(number)):
            _remove(left)


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


def fingerprint(file: Path) -> dict[str, int | str]:
    """A file's size and digest, as a manifest lists them."""
    return {"bytes": file.stat().st_size, "sha256": file_sha256(file)}


def file_sha256(file: Path) -> str:
    """The hex digest of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Has what was written to a file, or which files a folder holds, on the disk when it returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
