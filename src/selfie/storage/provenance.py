"""Versions of artefacts, and the record of what each was made from."""

import hashlib
import json
from pathlib import Path
from typing import Any, Protocol, TypedDict, runtime_checkable

from selfie.storage.commit import committed_version, forget_provenance, is_committed


class Manifest(TypedDict):
    """An artefact's version, and the record of what it was made from; None where that was dropped."""

    version: str
    made_from: dict[str, Any] | None


@runtime_checkable
class Versioned(Protocol):
    """A dataset whose content can be told apart from another's without loading it."""

    def version(self) -> str | None:
        """A short hash that changes with the content; None where nothing is there."""
        ...


class Artefact:
    """What the project writes: committed, verified, with a record of what it was made from.

    A mixin of datasets with one local ``_filepath``; their ``save`` passes ``provenance`` on to the commit.
    """

    _filepath: Path
    provenance: dict[str, Any] | None = None
    """What the next version is made from; set before the save."""

    def version(self) -> str | None:
        """Of the bytes that are there, by their manifest."""
        present = committed_version(self._filepath)
        return None if present is None else short_hash(present["files"])

    def made_from(self) -> dict[str, Any] | None:
        """The record of the version that is there; None without one."""
        present = committed_version(self._filepath)
        return None if present is None else present["provenance"]

    def missing_part(self) -> str | None:
        """What is still missing in the artefact and a second run of its step could add; None if nothing is."""
        return None

    def forget(self) -> None:
        """Drops the record, so that the next run makes the artefact again."""
        forget_provenance(self._filepath)

    def _exists(self) -> bool:
        return is_committed(self._filepath)


def short_hash(value: Any) -> str:
    """16 hex digits over a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
