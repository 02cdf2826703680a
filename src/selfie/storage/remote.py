"""Data in a bucket: work happens in a local folder, and the bucket holds every artefact that was committed there.

An artefact's files lie in the bucket below ``PATH/VERSION/``, and ``PATH/.manifest.json`` names the version, its files
and their digests. The manifest is written last. A reader trusts only what it names and what verifies, so a run that is
killed during an upload leaves the version before, or none. The local folder stays as it is without a bucket; a record
in ``.bucket/`` says which version of each artefact both had last.
"""

import json
import logging
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import fsspec

from selfie.errors import ConfigurationError, StorageError, UserError
from selfie.errors.disk_and_memory import FULL
from selfie.storage.commit import (
    MANIFEST,
    Version,
    commit_file,
    commit_folder,
    committed_version,
    fingerprint,
    followers,
    is_committed,
)
from selfie.storage.lease import Lease
from selfie.storage.provenance import short_hash

logger = logging.getLogger(__name__)

REMOTE_MANIFEST = ".manifest.json"
UNFINISHED = ".workspace"  # how folders of unfinished work begin: the bucket keeps none of it longer than the run does
# A bucket that can't be reached is noticed in seconds, not in minutes.
OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 2}}}
}


def is_address(data: str) -> bool:
    """Whether ``SELFIE_DATA`` names a bucket and no local folder."""
    return "://" in data


def scratch_folder(address: str) -> str:
    """Where runs with data in this bucket work: a folder of its own in ``SELFIE_SCRATCH``, or in ``data/scratch``.

    Raises:
        ConfigurationError: the address would lead out of it.
    """
    protocol, _, path = address.partition("://")
    parts = path.strip("/").split("/")
    if not protocol.isalnum() or not all(parts) or {".", ".."} & set(parts):
        raise ConfigurationError("SELFIE_DATA", f"{address} is no bucket's address", "write it as s3://BUCKET/PREFIX")
    return "/".join([os.environ.get("SELFIE_SCRATCH", "data/scratch"), protocol, *parts])


def environment(name: str, default: str | None = None) -> str | None:
    """What ``${env:NAME,DEFAULT}`` in ``conf/`` stands for; of a bucket in ``SELFIE_DATA`` it is the local folder."""
    value = os.environ.get(name, default)
    return scratch_folder(value) if name == "SELFIE_DATA" and value and is_address(value) else value


class Bucket:
    """A bucket and the local folder whose artefacts it holds.

    Args:
        address: ``s3://BUCKET/PREFIX``, or any other for which fsspec has a file system.
        folder: the local folder.

    Raises:
        ConfigurationError: the package for this kind of address is not installed.
    """

    current: ClassVar["Bucket | None"] = None
    """The one that this process's run works with."""

    def __init__(self, address: str, folder: Path):
        self.address, self.folder = address.rstrip("/"), folder
        protocol = address.partition("://")[0]
        options = {"skip_instance_cache": True, "use_listings_cache": False, **OPTIONS.get(protocol, {})}
        try:
            self.files, self.root = fsspec.url_to_fs(self.address, **options)
        except (ImportError, ValueError) as error:
            remedy = "install it (for s3://: pip install s3fs), or name a local folder"
            raise ConfigurationError("SELFIE_DATA", f"{self.address} can't be opened: {error}", remedy) from error
        self.seen: dict[str, str] = {}
        """Name of an artefact → the version that folder and bucket both had last."""
        self.leases: list[Lease] = []
        self._touched: set[str] = set()
        self._quiet = False

    def open(self) -> None:
        """From here on what this process commits in the folder goes to the bucket.

        Raises:
            StorageError: the bucket can't be reached or written, or does not keep two runs apart.
        """
        self.now()
        record = self.folder / ".bucket"
        record.mkdir(parents=True, exist_ok=True)
        if not (record / "id").exists():
            new = record / f"id.{os.getpid()}"
            new.write_text(uuid.uuid4().hex)
            new.replace(record / "id")
        self._record = record / "seen.jsonl"
        for line in self._record.read_text().splitlines() if self._record.exists() else ():
            with suppress(ValueError):  # the last one may be torn
                name, version = json.loads(line)
                self.seen[name] = version
        renewed = self._record.with_suffix(".new")
        renewed.write_text("".join(map(_line, self.seen.items())))
        renewed.replace(self._record)
        Bucket.current = self
        followers.append(self.push)

    def close(self) -> None:
        """What is committed stays local again; copies of unfinished work that has served are removed."""
        if self.push in followers:
            followers.remove(self.push)
        Bucket.current = None
        try:
            self._tidy()
        except StorageError as error:
            logger.warning("%s", error)

    def give_back_leases(self) -> None:
        """For a run that ends on SIGTERM, of which Kedro tells no hook: the next one need not wait for them."""
        for lease in self.leases:
            if lease.held:
                lease.release()

    def now(self) -> datetime:
        """The bucket's clock; on the way it is made sure that it can be written, and that no two create one object."""
        probe = f"{self.root}/.probes/{uuid.uuid4().hex}"
        remedy = f"check the address and the credentials; nothing was lost: {self.folder} holds what runs have made"
        try:
            self.files.pipe_file(probe, b"", mode="create")
            now: datetime = self.files.modified(probe)
            with suppress(FileExistsError):
                self.files.pipe_file(probe, b"", mode="create")
                problem = "it lets two runs create the same object, so that nothing keeps them apart"
                raise StorageError(self.address, problem, "use a storage with conditional writes (S3 has them)")
            self.files.rm_file(probe)
        except FileNotFoundError as error:
            raise StorageError(self.address, "there is no such bucket", remedy) from error
        except PermissionError as error:
            raise StorageError(self.address, f"it may not be written ({error})", remedy) from error
        except UserError:
            raise
        except Exception as error:  # each storage's client has errors of its own
            raise StorageError(self.address, f"it can't be reached ({_words(error)})", remedy) from error
        return now

    def lease(self, path: Path) -> Lease:
        """Of the lock with this local path."""
        folder = (self.folder / ".bucket/id").read_text()
        self.leases.append(Lease(self.files, self.now, f"{self.root}/{self._name(path)}", folder))
        return self.leases[-1]

    def push(self, path: Path) -> None:
        """Uploads what is committed at ``path``, file by file and the manifest last; nothing if the bucket has it.

        Raises:
            StorageError: it could not be uploaded; it stays in the local folder, and the next run uploads it.
            AlreadyRunningError: the run no longer holds the lease of its experiment.
        """
        name = self._name(path)
        present = committed_version(path) if name and not self._quiet else None
        if name is None or present is None:
            return
        self._touched.add(name)
        if self.seen.get(name) == short_hash(present):
            return
        with self.calls(f"the upload of {name}"):
            self._check_leases()
            self._tidy()
            self._upload(name, path, present)
        self._remember(name, short_hash(present))

    def pull(self, paths: Iterable[Path]) -> None:
        """Makes folder and bucket agree on the artefacts at these paths and below them.

        The bucket's version wins, unless it is the one that the folder saw last: then the folder's is newer, and is
        uploaded. What does not verify in the bucket counts as not there.
        """
        paths = sorted({path for path in paths if self._name(path)})
        wanted = [str(self._name(path)) for path in paths]
        with self.calls("reading"):
            listed = {file: entry["size"] for file, entry in self.files.find(self.root, detail=True).items()}
            manifests = [file for file in listed if file.endswith(f"/{REMOTE_MANIFEST}")]
            names = [file.removeprefix(f"{self.root}/").removesuffix(f"/{REMOTE_MANIFEST}") for file in manifests]
            self.seen = {name: version for name, version in self.seen.items() if name in set(names)}
            for name, file in zip(names, manifests, strict=True):
                if not {"", ".", ".."} & set(name.split("/")) and any(_belongs(name, other) for other in wanted):
                    self._take(name, json.loads(self.files.cat_file(file)), listed)
        for path in paths:
            for artefact in _artefacts(path):
                self.push(artefact)

    def _take(self, name: str, manifest: dict[str, Any], listed: dict[str, int]) -> None:
        here = committed_version(self.folder / name)
        version: Version = {"files": manifest["files"], "provenance": manifest["provenance"]}
        theirs, ours = short_hash(version), short_hash(here)
        if ours != theirs:
            if here is None or self.seen.get(name) != theirs:
                self._download(name, version, manifest["folder"])
            return
        place = f"{self.root}/{name}/{short_hash(version['files'])}"
        if all(listed.get(f"{place}/{file}") == entry["bytes"] for file, entry in version["files"].items()):
            self._remember(name, theirs)
        else:  # an object was lost, and the folder still has it
            self.seen.pop(name, None)

    def _download(self, name: str, version: Version, is_folder: bool) -> None:
        def fetch(new: Path) -> None:
            for file, listed in version["files"].items():
                target = new / file if is_folder else new
                if not target.resolve().is_relative_to(new.resolve()):
                    raise ValueError(f"its manifest names {file}")
                target.parent.mkdir(parents=True, exist_ok=True)
                self.files.get_file(f"{self.root}/{name}/{short_hash(version['files'])}/{file}", str(target))
                if fingerprint(target) != listed:
                    raise ValueError(f"{file} differs from its manifest")

        self._quiet = True
        try:
            (commit_folder if is_folder else commit_file)(self.folder / name, fetch, version["provenance"])
        except (FileNotFoundError, ValueError) as error:
            logger.warning("%s/%s is not whole (%s): it counts as not there", self.address, name, error)
            return
        finally:
            self._quiet = False
        self._remember(name, short_hash(version))

    def _upload(self, name: str, path: Path, present: Version) -> None:
        place, version = f"{self.root}/{name}", short_hash(present["files"])
        there = self.files.find(place, detail=True)
        for file, listed in present["files"].items():
            target = f"{place}/{version}/{file}"
            # The version stands for the digests, and an object is there whole or not at all.
            if target not in there or there[target]["size"] != listed["bytes"]:
                self.files.put_file(str(path / file if path.is_dir() else path), target)
        self._check_leases()
        content = json.dumps({"folder": path.is_dir(), **present}, indent=1)
        self.files.pipe_file(f"{place}/{REMOTE_MANIFEST}", content.encode())
        for file in there:
            if not file.startswith((f"{place}/{version}/", f"{place}/{REMOTE_MANIFEST}")):
                self.files.rm_file(file)

    def _check_leases(self) -> None:
        for lease in self.leases:
            lease.check()

    def _tidy(self) -> None:
        """Removes unfinished work of this run that is no longer there; finished artefacts are never removed."""
        for name in sorted(self._touched):
            if f"/{UNFINISHED}" in f"/{name}" and not (self.folder / name).exists():
                with self.calls(f"the removal of {name}"):
                    for file in self.files.find(f"{self.root}/{name}"):  # the manifest comes first
                        self.files.rm_file(file)
                self._touched.remove(name)

    def _remember(self, name: str, version: str) -> None:
        self._touched.add(name)
        if self.seen.get(name) != version:
            self.seen[name] = version
            with self._record.open("a") as file:
                file.write(_line((name, version)))

    def _name(self, path: Path) -> str | None:
        """The artefact's name in the bucket; None for what lies outside of the folder."""
        path, folder = path.absolute(), self.folder.absolute()
        return path.relative_to(folder).as_posix() if path.is_relative_to(folder) and path != folder else None

    @contextmanager
    def calls(self, what: str) -> Iterator[None]:
        """Says of a call that failed what it was for."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL:  # the local disk
                raise
            remedy = f"run the same command again once the bucket answers: {self.folder} holds all that was made"
            raise StorageError(self.address, f"{what} failed ({_words(error)})", remedy) from error


def _belongs(name: str, path: str) -> bool:
    """Whether an artefact lies at the path or below it, or is its twin in Markdown (``leaderboard.md``)."""
    return name.startswith(f"{path}/") or name in (path, str(PurePosixPath(path).with_suffix(".md")))


def _artefacts(path: Path) -> Iterator[Path]:
    """What is committed at the path, or below it."""
    if is_committed(path):
        yield path
    elif path.is_dir():
        for manifest in sorted(path.rglob("*")):
            if manifest.name == MANIFEST:
                yield manifest.parent
            elif manifest.name.startswith(".") and manifest.name.endswith(".manifest"):
                yield manifest.with_name(manifest.name[1:].removesuffix(".manifest"))


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def _line(seen: tuple[str, str]) -> str:
    return json.dumps(seen) + "\n"
