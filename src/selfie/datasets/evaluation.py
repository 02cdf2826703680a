"""Datasets of evaluations: verdicts, external outputs, leaderboards, an API key."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset, DatasetError
from pydantic import SecretStr

from selfie.datasets.committed import CommittedDataset
from selfie.errors import DataError
from selfie.evaluation.alpaca_files import read_outputs
from selfie.evaluation.capability_files import read_rows
from selfie.evaluation.leaderboard import leaderboard_markdown, merge_leaderboards
from selfie.evaluation.mt_bench_questions import read_questions
from selfie.storage.commit import commit_file, commit_text, file_sha256, forget_provenance, verify
from selfie.storage.provenance import Artefact


class _UserFile(AbstractDataset[None, list[dict[str, Any]]]):
    """A file that the user names; None where there is none, which is an error only when it is read."""

    name: str

    def __init__(self, filepath: str | None, metadata: dict[str, Any] | None = None):
        self._filepath = Path(filepath) if filepath else None
        self.metadata = metadata

    def load(self) -> list[dict[str, Any]]:
        if self._filepath is None:
            raise DataError(self.name, "no file is named", f"say --params {self.name}=PATH, or set it in globals.yml")
        if not self._filepath.exists():
            raise DataError(str(self._filepath), "the file does not exist", f"name another one as {self.name}")
        return self.read(self._filepath)

    @abstractmethod
    def read(self, path: Path) -> list[dict[str, Any]]:
        """The checked rows."""

    def save(self, data: None) -> None:
        raise DatasetError(f"{self._filepath} is the user's and is never written")

    def version(self) -> str | None:
        """Of the file's bytes."""
        return file_sha256(self._filepath)[:16] if self._filepath is not None and self._filepath.exists() else None

    def _exists(self) -> bool:
        return self._filepath is not None and self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


class ModelOutputsDataset(_UserFile):
    """A model's answers in AlpacaEval's format, ``.json`` or ``.json.gz``; legacy keys are read too."""

    name = "model_outputs"

    def read(self, path: Path) -> list[dict[str, Any]]:
        return read_outputs(path)


class MtBenchQuestionsDataset(_UserFile):
    """MT-Bench's ``question.jsonl``."""

    name = "mt_bench_questions"

    def read(self, path: Path) -> list[dict[str, Any]]:
        return read_questions(path)


class CapabilityTestDataset(_UserFile):
    """The items of a capability test.

    Args:
        filepath: of the rows, in JSONL, JSON, CSV or Parquet.
        kind: ``questions``, ``text`` or ``ifeval``: :data:`selfie.evaluation.capability_files.KINDS`.
        optional: there is no item where the file is not there.
    """

    name = "capability tests"

    def __init__(self, filepath: str, kind: str, optional: bool = False, metadata: dict[str, Any] | None = None):
        super().__init__(filepath, metadata)
        self._kind, self._optional = kind, optional

    def load(self) -> list[dict[str, Any]]:
        return [] if self._optional and not self._exists() else super().load()

    def read(self, path: Path) -> list[dict[str, Any]]:
        return read_rows(str(path), self._kind)


class VerdictsDataset(CommittedDataset):
    """A judge's verdicts, as JSON: those that are missing for a ``failure`` are asked for again by the next run."""

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None):
        super().__init__(filepath, {"type": "json.JSONDataset"}, metadata)

    def missing_part(self) -> str | None:
        failed = sum("failure" in record for record in self.load())
        return f"{failed} questions are without an answer" if failed else None


class LeaderboardDataset(Artefact, AbstractDataset[pd.DataFrame, pd.DataFrame]):
    """AlpacaEval's ``leaderboard.csv``. What is saved is merged into it; a Markdown twin lies beside it.

    Several steps add to it. Each has an entry in the catalog with a name of its own as ``author``, under which the
    file's manifest keeps what that one's rows were made from: rows that one step adds make no other step's stale.
    """

    def __init__(self, filepath: str, author: str, metadata: dict[str, Any] | None = None):
        self._filepath, self._author = Path(filepath), author
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        verify(self._filepath)
        return pd.read_csv(self._filepath, index_col=0, keep_default_na=False, na_values=[""])

    def save(self, data: pd.DataFrame) -> None:
        before = self.load() if self._exists() else data[:0]
        board = merge_leaderboards(before, data)
        commit_file(self._filepath, board.to_csv, {**(super().made_from() or {}), self._author: self.provenance})
        commit_text(self._filepath.with_suffix(".md"), leaderboard_markdown(board))

    def made_from(self) -> dict[str, Any] | None:
        return (super().made_from() or {}).get(self._author)

    def forget(self) -> None:
        forget_provenance(self._filepath, self._author)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "author": self._author}


class ApiKeyDataset(AbstractDataset[None, SecretStr]):
    """A key from ``credentials.yml``. It loads as a secret, which shows itself as asterisks."""

    def __init__(self, credentials: dict[str, str], metadata: dict[str, Any] | None = None):
        self._key = SecretStr(credentials["api_key"])
        self.metadata = metadata

    def load(self) -> SecretStr:
        return self._key

    def save(self, data: None) -> None:
        raise DatasetError("a key is never written")

    def _describe(self) -> dict[str, Any]:
        return {"key": "given" if self._key.get_secret_value() else "none"}
