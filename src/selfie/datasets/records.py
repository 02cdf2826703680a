"""What the user brings: preference pairs and prompts, from JSONL, JSON, CSV, Parquet or the Hugging Face hub.

Every row is checked on load; an error names the file, the row and the remedy. Data validation sets rows aside first,
where they are few (:mod:`selfie.data.validation`).
"""

import json
import logging
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import numpy as np
from datasets import Dataset, load_dataset
from fsspec.implementations.local import LocalFileSystem
from kedro.io import AbstractDataset, DatasetError

from selfie.data.file_readers import Problem, Row, read_file
from selfie.data.label_formats import FORMATS
from selfie.data.stored_rows import StoredRows, opposites, repeats, without
from selfie.errors import DataError
from selfie.errors.redaction import redact
from selfie.runtime.random_seeds import derive_seed
from selfie.storage.commit import file_sha256
from selfie.storage.provenance import short_hash

logger = logging.getLogger(__name__)
Item = TypeVar("Item")
SHOWN_ERRORS = 5
ROLES = ("system", "user", "assistant")
LONGEST_TEXT = 1_000_000  # characters; no model's context holds a quarter of it
# The control characters of Unicode, but for those that are white space: no text needs them, terminals obey them.
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")
_VISIBLE = re.compile(r"[^\s\u200b-\u200f\u2060\ufeff]")  # neither white space nor a character of no width
_SURROGATE = re.compile(r"[\ud800-\udfff]")


class RecordDataset(AbstractDataset[None, Dataset]):
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
        self._set_aside: frozenset[int] = frozenset()
        self.metadata = metadata

    @property
    def source(self) -> str:
        """What messages call the data: without the password that a URL may hold."""
        return redact(self._filepath or f"hub dataset {self._hub}")

    def load(self) -> Dataset:
        """The checked rows, without those that were set aside.

        Raises:
            DataError: the file or a row can't be used.
        """
        rows, problems = self.inspect()
        problems = [problem for problem in problems if problem.row not in self._set_aside]
        fatal = [problem for problem in problems if problem.fatal]
        if fatal:
            raise self.refusal(fatal)
        if problems:
            logger.warning("%s: %d rows come more than once and count once", self.source, len(problems))
        rows = without(rows, self._set_aside | {problem.row for problem in problems})
        if not rows:
            raise DataError(self.source, "no row is left", "mend the rows that are set aside, or bring more")
        return rows.as_dataset()

    def inspect(self) -> tuple[StoredRows, list[Problem]]:
        """All rows that can be used alone, in the project's form, and what is wrong with the others or between rows.

        Raises:
            DataError: the file as a whole can't be used.
        """
        problems: list[Problem] = []
        found: Counter[str] = Counter()
        rows = StoredRows.of(self._usable(problems, found))
        undecided = found["undecided"]
        if undecided:
            logger.info("%s: %d rows hold no preference (a tie, or no answer) and are left out", self.source, undecided)
        if not found["usable"] and not problems:
            problem = f"none of the {undecided} rows holds a preference" if undecided else "there are no rows"
            raise DataError(self.source, problem, "add at least one, or name another file in the catalog")
        if self._share is not None:
            rows = rows.only(np.argsort([_rank(row["prompt_id"]) for row in rows], kind="stable"))
            # A row that can't be used has no prompt; each counts in one share.
            problems = [problem for problem in problems if self._is_in_share(str(problem.row))]
        if not rows and not problems:
            raise DataError(self.source, "no row is left", "widen `share` or `max_characters` in the catalog")
        return rows, problems + self.check_together(rows)

    def _usable(self, problems: list[Problem], found: Counter[str]) -> Iterator[Row]:
        """The rows to keep; what is wrong with others goes to ``problems``, how many there are to ``found``."""
        for number, row in self._read():
            if isinstance(row, Problem):
                problems.append(row)
                continue
            try:
                own = self.convert(row)
                if own is None:
                    found["undecided"] += 1
                    continue
                checked = {**self.check(own), "row": number}
            except ValueError as error:
                problems.append(Problem(number, *error.args))
                continue
            found["usable"] += 1
            short = self._max_characters is None or self._longest(checked) <= self._max_characters
            if short and (self._share is None or self._is_in_share(checked["prompt_id"])):
                yield checked

    def _is_in_share(self, name: str) -> bool:
        first, end = self._share or (0.0, 1.0)
        return first <= _rank(name) < end

    def _longest(self, row: Row) -> int:
        prompt = sum(len(message["content"]) for message in row["messages"])
        responses = ("chosen", "rejected", "response_1", "response_2")
        return max(prompt, *(len(row.get(name, "")) for name in responses))

    def set_aside(self, rows: Iterable[int]) -> None:
        """Rows, by number, that ``load`` leaves out from now on."""
        self._set_aside = frozenset(rows)

    def refusal(self, problems: list[Problem]) -> DataError:
        """The error that names the first of the problems in full, and some of the others."""
        first, *others = sorted(problems)
        problem = "; also ".join([first.problem, *(f"row {p.row}: {p.problem}" for p in others[: SHOWN_ERRORS - 1])])
        if len(problems) > SHOWN_ERRORS:
            problem += f"; and {len(problems) - SHOWN_ERRORS} more rows"
        return DataError(f"{self.source}, row {first.row}", problem, first.remedy)

    def convert(self, row: Row) -> Row | None:
        """A row of the data with our names; None where it is to be left out. Raises ValueError(problem, remedy)."""
        return {field: row.get(name) for field, name in self._columns.items()}

    def check(self, row: Row) -> Row:
        """One row in the project's form. Raises ValueError(problem, remedy)."""
        messages = _messages(row["prompt"], "prompt")
        if messages[-1]["role"] != "user":
            raise ValueError("`prompt` does not end with the user's turn", "end it before the assistant answers")
        _check_turns(messages, "prompt")
        return {"prompt_id": f"{derive_seed(json.dumps(messages)):016x}", "messages": messages}

    def check_together(self, rows: StoredRows) -> list[Problem]:
        """What only shows between rows."""
        return []

    def read_rows(self, filepath: str) -> Iterable[tuple[int, Row | Problem]]:
        """The file's rows with their numbers, or what is wrong with one. A subclass may read another format."""
        return read_file(filepath)

    def _read(self) -> Iterator[tuple[int, Row | Problem]]:
        """Those of ``rows``, in the order of ``shuffle_seed``; a hub dataset's are read from the disk one at a time."""
        if self._hub is not None:
            hub = load_dataset(self._hub, split=self._split, revision=self._revision)
            yield from ((number, hub[number]) for number in self._chosen(range(len(hub))))
        elif self._shuffle_seed is None and self._rows is None:
            yield from self.read_rows(str(self._filepath))
        else:
            yield from self._chosen(self.read_rows(str(self._filepath)))

    def _chosen(self, numbered: Iterable[Item]) -> list[Item]:
        every = list(numbered)
        if self._shuffle_seed is not None:
            random.Random(self._shuffle_seed).shuffle(every)
        return every[slice(*self._rows)] if self._rows else every

    def version(self) -> str | None:
        """Of a local file's bytes, of a remote one's listing, of the hub's revision; and of what is read of them."""
        if self._hub is None and not self._exists():
            return None
        description = [self._describe(), self._shuffle_seed, self._split, self._share, self._max_characters]
        if self._hub is None:
            files, path = fsspec.core.url_to_fs(self._filepath)
            local = isinstance(files, LocalFileSystem)
            description.append(file_sha256(Path(path)) if local else files.ukey(path))
        return short_hash(description)

    def _exists(self) -> bool:
        return self._hub is not None or fsspec.core.url_to_fs(self._filepath)[0].exists(self._filepath)

    def save(self, data: None) -> None:
        raise DatasetError(f"{self.source} is the user's and is never written")

    def _describe(self) -> dict[str, Any]:
        read = {"columns": self._columns, "rows": self._rows, "set_aside": sorted(self._set_aside)}
        return {"source": self.source, "revision": self._revision, **read}


class PromptDataset(RecordDataset):
    """Prompts: a string, or a conversation (``[{"role": …, "content": …}, …]``) that ends with the user's turn.

    A prompt that comes again is left out: its samples would be the same.
    """

    fields = ("prompt",)

    def check_together(self, rows: StoredRows) -> list[Problem]:
        return _repeats(rows, ("prompt_id",))


class PairDataset(RecordDataset):
    """Pairs without a label: a prompt and two responses, each a string or a conversation that ends with it.

    ``response_1_finish_reason`` and ``response_2_finish_reason`` are optional and ``stop`` by default; ``length`` says
    that the response was cut off, so that training does not teach the model to end there.
    """

    responses: tuple[str, str] = ("response_1", "response_2")
    fields = ("prompt", "response_1", "response_2", "response_1_finish_reason", "response_2_finish_reason")

    def check(self, row: Row) -> Row:
        prompt = super().check(row)
        first, second = self.responses
        texts = {name: _response(row[name], name, prompt["messages"]) for name in self.responses}
        if texts[first] == texts[second]:
            raise ValueError(f"{first} and {second} are identical", "remove the pair: it says nothing")
        reasons = {name: row.get(name) or "stop" for name in (f"{first}_finish_reason", f"{second}_finish_reason")}
        for name, reason in reasons.items():
            if reason not in ("stop", "length"):
                raise ValueError(f"`{name}` is {reason!r:.80}", "write stop or length, or leave it out")
        return {**prompt, **texts, **reasons}

    def check_together(self, rows: StoredRows) -> list[Problem]:
        return _repeats(rows, ("prompt_id", *self.responses))


class PreferenceDataset(PairDataset):
    """Preference pairs: a prompt, a chosen and a rejected response, with finish reasons as in :class:`PairDataset`.

    Args:
        format: of the rows, where they are not in our own: ``trl``, ``hh``, ``argilla`` or ``label_studio``
            (:mod:`selfie.data.label_formats`). ``columns`` then names what is called otherwise in that format.
    """

    responses = ("chosen", "rejected")
    fields = ("prompt", "chosen", "rejected", "chosen_finish_reason", "rejected_finish_reason")

    def __init__(self, filepath: str | None = None, format: str | None = None, **options: Any):
        if format is not None and format not in FORMATS:
            raise DatasetError(f"the format {format!r} is not known: use one of {', '.join(FORMATS)}")
        super().__init__(filepath, **options)
        self._format = format
        self._named = dict(options.get("columns") or {})

    def convert(self, row: Row) -> Row | None:
        if self._format is None:
            return super().convert(row)
        try:
            return FORMATS[self._format](row, self._named)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"it is no row of the format {self._format}", "export the data again") from error

    def _describe(self) -> dict[str, Any]:
        described = super()._describe()
        return described if self._format is None else {**described, "format": self._format, "columns": self._named}

    def check_together(self, rows: StoredRows) -> list[Problem]:
        problems = []
        for place, other in opposites(rows, ("prompt_id", "chosen", "rejected"), ("prompt_id", "rejected", "chosen")):
            problem = f"it contradicts row {rows[other]['row']}: the same responses, preferred the other way round"
            problems.append(Problem(rows[place]["row"], problem, "keep one of the two rows, or neither"))
        return problems + super().check_together(rows)


def _repeats(rows: StoredRows, names: tuple[str, ...]) -> list[Problem]:
    problems = []
    for place, first in repeats(rows, names):
        problem = f"it repeats row {rows[first]['row']}"
        problems.append(Problem(rows[place]["row"], problem, "it counts once: remove it", fatal=False))
    return problems


def _rank(name: str) -> float:
    """A prompt's place in a fixed random order, in [0, 1)."""
    return derive_seed("share", name) / 2**63


def _messages(value: Any, name: str) -> list[dict[str, str]]:
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    if value is None:
        raise ValueError(f"it has no `{name}`", f"add `{name}`, or map it under `columns:` in the catalog")
    if not isinstance(value, list) or not value or not all(_is_message(message) for message in value):
        raise ValueError(
            f"`{name}` is neither text nor a list of messages", 'write text, or [{"role": …, "content": …}, …]'
        )
    for message in value:
        check_text(message["content"], name)
    return [{"role": message["role"], "content": message["content"]} for message in value]


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and value.get("role") in ROLES and isinstance(value.get("content"), str)


def check_text(text: str, name: str) -> None:
    """Raises ValueError(problem, remedy) where a text is empty, too long, or holds what no text needs."""
    if not _VISIBLE.search(text):
        raise ValueError(f"`{name}` is empty", "fill it or remove the row")
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"`{name}` has {len(text):,} characters, more than {LONGEST_TEXT:,}", "shorten or remove it")
    found = _SURROGATE.search(text)
    if found:
        problem = f"`{name}` holds half a character (the lone surrogate U+{ord(found.group()):04X})"
        raise ValueError(problem, "write the whole character, or remove it")
    found = _CONTROL.search(text)
    if found:
        raise ValueError(f"`{name}` holds the control character U+{ord(found.group()):04X}", "remove it")


def _check_turns(messages: list[dict[str, str]], name: str) -> None:
    """Chat templates differ in what they make of other orders, and many fail."""
    roles = [message["role"] for message in messages]
    turns = roles[1:] if roles[0] == "system" else roles
    if "system" in turns:
        raise ValueError(f"`{name}` has a system turn that is not the first", "move it to the beginning")
    if any(role != ("user", "assistant")[number % 2] for number, role in enumerate(turns)):
        raise ValueError(
            f"`{name}` does not alternate between user and assistant ({', '.join(roles)})",
            "let the user begin, and one follow the other",
        )


def _response(value: Any, name: str, prompt: list[dict[str, str]]) -> str:
    *before, last = _messages(value, name)
    if isinstance(value, list) and last["role"] != "assistant":
        raise ValueError(f"`{name}` does not end with the assistant's turn", "end the conversation with the response")
    if before and _stripped(before) != _stripped(prompt):
        raise ValueError(f"`{name}` answers another conversation than `prompt`", "make both begin with the same turns")
    return last["content"]


def _stripped(messages: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"].strip()) for message in messages]
