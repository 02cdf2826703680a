"""What the user brings: preference pairs and prompts, from JSONL, JSON, CSV, Parquet or the Hugging Face hub.

Every row is checked on load; an error names the file, the row and the remedy.
"""

import csv
import io
import json
import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow
import pyarrow.parquet
from datasets import Dataset, load_dataset
from kedro.io import AbstractDataset, DatasetError

from selfie.errors import DataError
from selfie.randomness import derive_seed

logger = logging.getLogger(__name__)
Row = dict[str, Any]
SHOWN_ERRORS = 5


class _RecordDataset(AbstractDataset[None, Dataset]):
    """Reads rows, renames columns, checks every row.

    Args:
        filepath: a ``.jsonl``, ``.json`` (a list of objects), ``.csv`` or ``.parquet`` file, or one of them with
            ``.gz`` after it, local or any URL that fsspec reads (``s3://…``, ``hf://datasets/…``).
        hub: instead of ``filepath``, a dataset on the Hugging Face hub.
        revision: the hub commit, pinned.
        split: of the hub dataset.
        columns: our name → the name in the data, where they differ.
        shuffle_seed: shuffle the rows with this seed before ``rows`` is taken.
        rows: ``[first, end)``, the rows to keep; all by default.
        share: ``[from, to)``, the prompts to keep, as fractions of a fixed random order of all prompts; rows come in
            that order. Shares that don't overlap have no prompt in common.
        max_characters: leave rows out whose prompt or response is longer.
    """

    fields: tuple[str, ...]

    def __init__(
        self,
        filepath: str | None = None,
        hub: str | None = None,
        revision: str | None = None,
        split: str = "train",
        columns: dict[str, str] | None = None,
        shuffle_seed: int | None = None,
        rows: list[int] | None = None,
        share: list[float] | None = None,
        max_characters: int | None = None,
        metadata: dict[str, Any] | None = None,
    ):
        if (filepath is None) == (hub is None):
            raise DatasetError("give either `filepath` or `hub`")
        if hub is not None and revision is None:
            raise DatasetError(f"`hub: {hub}` needs a `revision` (a commit), so that runs can be repeated")
        self._filepath, self._hub, self._revision, self._split = filepath, hub, revision, split
        self._columns = {field: (columns or {}).get(field, field) for field in self.fields}
        self._shuffle_seed, self._rows = shuffle_seed, rows
        self._share, self._max_characters = share, max_characters
        self.metadata = metadata

    @property
    def source(self) -> str:
        """What error messages call the data."""
        return self._filepath or f"hub dataset {self._hub}"

    def load(self) -> Dataset:
        """The checked rows.

        Raises:
            DataError: the file or a row can't be used.
        """
        numbered = list(self._read())
        if self._shuffle_seed is not None:
            random.Random(self._shuffle_seed).shuffle(numbered)
        numbered = numbered[slice(*self._rows)] if self._rows else numbered
        if not numbered:
            raise DataError(self.source, "there are no rows", "add at least one, or name another file in the catalog")
        rows, problems = [], []
        for number, row in numbered:
            try:
                rows.append({**self.check({k: row.get(v) for k, v in self._columns.items()}), "row": number})
            except ValueError as error:
                problems.append((number, error))
        problems.extend(self.check_together(rows))
        self._raise(problems)
        rows = self._select(rows)
        if not rows:
            raise DataError(self.source, "no row is left", "widen `share` or `max_characters` in the catalog")
        return Dataset.from_list(rows)

    def _select(self, rows: list[Row]) -> list[Row]:
        if self._max_characters is not None:
            rows = [row for row in rows if self._longest(row) <= self._max_characters]
        if self._share is not None:
            first, end = self._share
            ranked = sorted((_rank(row["prompt_id"]), index) for index, row in enumerate(rows))
            rows = [rows[index] for rank, index in ranked if first <= rank < end]
        return rows

    def _longest(self, row: Row) -> int:
        return max(
            len(text) for text in (row["messages"][-1]["content"], row.get("chosen", ""), row.get("rejected", ""))
        )

    def check(self, row: Row) -> Row:
        """One row in the project's form. Raises ValueError(problem, remedy)."""
        messages = _messages(row["prompt"], "prompt")
        if messages[-1]["role"] != "user":
            raise ValueError("`prompt` does not end with the user's turn", "end it before the assistant answers")
        return {"prompt_id": f"{derive_seed(json.dumps(messages)):016x}", "messages": messages}

    def check_together(self, rows: list[Row]) -> list[tuple[int, ValueError]]:
        """What only shows between rows."""
        return []

    def _raise(self, problems: list[tuple[int, ValueError]]) -> None:
        if not problems:
            return
        number, first = problems[0]
        problem, remedy = first.args
        others = [f"row {n}: {error.args[0]}" for n, error in problems[1:SHOWN_ERRORS]]
        if others:
            problem += "; also " + "; ".join(others)
        if len(problems) > SHOWN_ERRORS:
            problem += f"; and {len(problems) - SHOWN_ERRORS} more rows"
        raise DataError(f"{self.source}, row {number}", problem, remedy)

    def _read(self) -> Iterator[tuple[int, Row]]:
        """Numbered rows; text files count lines from 1, the others rows from 0."""
        if self._hub is not None:
            yield from enumerate(load_dataset(self._hub, split=self._split, revision=self._revision))
            return
        path = str(self._filepath)
        suffix = Path(path.removesuffix(".gz")).suffix
        readers = {".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv, ".parquet": _read_parquet}
        if suffix not in readers:
            raise DataError(path, f"the format {suffix!r} is not known", f"use one of {', '.join(readers)}")
        try:
            yield from readers[suffix](path)
        except FileNotFoundError as error:
            raise DataError(path, "the file does not exist", "create it, or name another one in the catalog") from error
        except UnicodeDecodeError as error:
            row = error.object[: error.start].count(b"\n") + 1
            raise DataError(f"{path}, row {row}", "it is not UTF-8", "save the file as UTF-8") from error

    def _exists(self) -> bool:
        return self._hub is not None or fsspec.core.url_to_fs(self._filepath)[0].exists(self._filepath)

    def save(self, data: None) -> None:
        raise DatasetError(f"{self.source} is the user's and is never written")

    def _describe(self) -> dict[str, Any]:
        return {"source": self.source, "revision": self._revision, "columns": self._columns, "rows": self._rows}


class PromptDataset(_RecordDataset):
    """Prompts: a string, or a conversation (``[{"role": …, "content": …}, …]``) that ends with the user's turn.

    A prompt that comes again is left out: its samples would be the same.
    """

    fields = ("prompt",)

    def load(self) -> Dataset:
        rows = super().load()
        first = {prompt_id: index for index, prompt_id in reversed(list(enumerate(rows["prompt_id"])))}
        if len(first) < len(rows):
            logger.warning("%s: %d prompts come more than once and count once", self.source, len(rows) - len(first))
        return rows.select(sorted(first.values()))


class PreferenceDataset(_RecordDataset):
    """Preference pairs: a prompt and two responses; a response may be a string or a conversation that ends with it.

    ``chosen_finish_reason`` and ``rejected_finish_reason`` are optional and ``stop`` by default; ``length`` says that
    the response was cut off, so that training does not teach the model to end there.
    """

    fields = ("prompt", "chosen", "rejected", "chosen_finish_reason", "rejected_finish_reason")

    def check(self, row: Row) -> Row:
        chosen, rejected = (_response(row[name], name) for name in ("chosen", "rejected"))
        if chosen == rejected:
            raise ValueError("chosen and rejected are identical", "remove the pair: it says nothing")
        reasons = {name: row[name] or "stop" for name in self.fields if name.endswith("finish_reason")}
        for name, reason in reasons.items():
            if reason not in ("stop", "length"):
                raise ValueError(f"`{name}` is {reason!r}", "write stop or length, or leave it out")
        return {**super().check(row), "chosen": chosen, "rejected": rejected, **reasons}

    def check_together(self, rows: list[Row]) -> list[tuple[int, ValueError]]:
        preferred: dict[tuple, int] = {}
        problems = []
        for row in rows:
            opposite = preferred.get((row["prompt_id"], row["rejected"], row["chosen"]))
            if opposite is not None:
                problem = f"it contradicts row {opposite}: the same responses, preferred the other way round"
                problems.append((row["row"], ValueError(problem, "keep one of the two rows")))
            preferred.setdefault((row["prompt_id"], row["chosen"], row["rejected"]), row["row"])
        return problems


def _rank(prompt_id: str) -> float:
    """A prompt's place in a fixed random order, in [0, 1)."""
    return derive_seed("share", prompt_id) / 2**63


def _messages(value: Any, name: str) -> list[dict[str, str]]:
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    if value is None:
        raise ValueError(f"it has no `{name}`", f"add `{name}`, or map it under `columns:` in the catalog")
    if not isinstance(value, list) or not value or not all(_is_message(message) for message in value):
        raise ValueError(
            f"`{name}` is neither text nor a list of messages", 'write text, or [{"role": …, "content": …}, …]'
        )
    if any(not message["content"].strip() for message in value):
        raise ValueError(f"`{name}` is empty", "fill it or remove the row")
    return [{"role": message["role"], "content": message["content"]} for message in value]


def _is_message(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.get("role") in ("system", "user", "assistant")
        and isinstance(value.get("content"), str)
    )


def _response(value: Any, name: str) -> str:
    message = _messages(value, name)[-1]
    if isinstance(value, list) and message["role"] != "assistant":
        raise ValueError(f"`{name}` does not end with the assistant's turn", "end the conversation with the response")
    return message["content"]


def _read_jsonl(path: str) -> Iterator[tuple[int, Row]]:
    with fsspec.open(path, "rb", compression="infer") as stream:
        text = stream.read().decode("utf-8-sig")  # as a whole, so that a decoding error knows its row
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{path}, row {number}", f"it is not JSON ({error})", "one JSON object a line"
                ) from error
            if not isinstance(row, dict):
                raise DataError(f"{path}, row {number}", "it is not a JSON object", 'write {"prompt": …} a line')
            yield number, row


def _read_json(path: str) -> Iterator[tuple[int, Row]]:
    with fsspec.open(path, "rb", compression="infer") as stream:
        text = stream.read().decode("utf-8-sig")
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(path, f"it is not JSON ({error})", "write a list of objects, or use .jsonl") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(path, "it is not a list of objects", "write [{…}, {…}], or use .jsonl")
    yield from enumerate(rows)


def _read_csv(path: str) -> Iterator[tuple[int, Row]]:
    with fsspec.open(path, "rb", compression="infer") as stream:
        text = stream.read().decode("utf-8-sig")
    reader = csv.DictReader(io.StringIO(text, newline=""))
    for row in reader:
        yield reader.line_num, row


def _read_parquet(path: str) -> Iterator[tuple[int, Row]]:
    with fsspec.open(path, "rb", compression="infer") as stream:
        try:
            rows = pyarrow.parquet.read_table(stream).to_pylist()
        except pyarrow.ArrowInvalid as error:
            raise DataError(path, f"it is not a Parquet file ({error})", "write it again") from error
    yield from enumerate(rows)
