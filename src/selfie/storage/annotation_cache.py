"""What judges have said, kept under the content of the question: the same one is never asked twice."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from kedro.io import DatasetError

from selfie.storage.commit import commit_text, verify

logger = logging.getLogger(__name__)

COMMIT_EVERY = 25  # verdicts that a crash can cost


def cache_key(**content: Any) -> str:
    """SHA-256 of everything that a verdict depends on: the texts, the judge's identity, its prompt."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class AnnotationCache:
    """A folder of committed JSONL files, each written once and never changed.

    Files are named by their content, so that several runs may write at the same time. One that does not verify is left
    out: its questions are asked again.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._known: dict[str, dict[str, Any]] = {}
        self._new: list[dict[str, Any]] = []
        for file in sorted(folder.glob("*.jsonl")):
            self._read(file)

    def get(self, key: str) -> dict[str, Any] | None:
        """The verdict under this key."""
        return self._known.get(key)

    def put(self, key: str, verdict: dict[str, Any]) -> None:
        """Keeps a verdict; every 25th call commits."""
        self._known[key] = verdict
        self._new.append({"key": key, **verdict})
        if len(self._new) >= COMMIT_EVERY:
            self.commit()

    def commit(self) -> None:
        """Writes what is new."""
        if self._new:
            text = "".join(json.dumps(row, sort_keys=True) + "\n" for row in self._new)
            name = hashlib.sha256(text.encode()).hexdigest()[:32]
            commit_text(self.folder / f"{name}.jsonl", text)
            self._new = []

    def _read(self, file: Path) -> None:
        try:
            verify(file)
        except DatasetError as error:
            logger.warning("%s; its questions will be asked again", error)
            return
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            self._known[row.pop("key")] = row
