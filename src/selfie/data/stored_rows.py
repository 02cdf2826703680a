"""Rows of a data set on the disk, read as they are asked for: a million prompts need no gigabyte of memory."""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, overload

import numpy as np
import pyarrow as pa
from datasets import Dataset
from datasets.table import InMemoryTable

Row = dict[str, Any]
AT_ONCE = 1000


class StoredRows(Sequence[Row]):
    """Like a list of rows with the same keys; every access makes the row anew. Pickling reads all rows of the file.

    Args:
        dataset: the rows.
        places: which of them, in which order; all by default.
    """

    def __init__(self, dataset: Dataset, places: np.ndarray | None = None):
        self._dataset = dataset
        self._places = np.arange(len(dataset)) if places is None else places

    @classmethod
    def of(cls, rows: Iterable[Row]) -> "StoredRows":
        """Writes rows to the disk as they come."""
        return cls(_write(rows))

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> "StoredRows": ...
    def __getitem__(self, place: int | slice) -> "Row | StoredRows":
        if isinstance(place, slice):
            return StoredRows(self._dataset, self._places[place])
        return self._dataset[int(self._places[place])]

    def __iter__(self) -> Iterator[Row]:
        for first in range(0, len(self), AT_ONCE):
            columns = self._dataset[self._places[first : first + AT_ONCE]]
            yield from (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))

    def only(self, places: Sequence[int] | np.ndarray) -> "StoredRows":
        """The rows at these places, in this order."""
        return StoredRows(self._dataset, self._places[np.asarray(places, dtype=np.int64)])

    def numbers(self) -> np.ndarray:
        """The column ``row``, shape [rows]."""
        if not len(self._dataset):
            return np.zeros(0, dtype=np.int64)
        return self._dataset.data["row"].to_numpy()[self._places]

    def as_dataset(self) -> Dataset:
        """These rows and no others, in this order."""
        if np.array_equal(self._places, np.arange(len(self._dataset))):
            return self._dataset
        return _write(self)


def _write(rows: Iterable[Row]) -> Dataset:
    """A dataset whose memory is a file's that has no name any more: it goes with the last who looks at it."""
    digest = hashlib.blake2b(digest_size=8)
    with _full_disk_named(), tempfile.NamedTemporaryFile(prefix="selfie-rows-") as file:
        coming = iter(rows)
        part = list(islice(coming, AT_ONCE))
        first = Dataset.from_list(part)
        if not part:
            return first
        with pa.ipc.new_stream(file, first.data.schema) as writer:
            while part:
                digest.update(json.dumps(part).encode())
                writer.write_table(Dataset.from_list(part, first.features).data.table)
                part = list(islice(coming, AT_ONCE))
        file.flush()
        table = InMemoryTable(pa.ipc.open_stream(pa.memory_map(file.name)).read_all())
        # datasets would read all rows into memory to make a fingerprint of its own.
        return Dataset(table, fingerprint=digest.hexdigest())


@contextmanager
def _full_disk_named() -> Iterator[None]:
    """A file without a name is no help to somebody whose disk is full."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or f"{tempfile.gettempdir()} (TMPDIR)"
        raise


def without(rows: StoredRows, numbers: Iterable[int]) -> StoredRows:
    """All rows but those with these numbers (the column ``row``)."""
    return rows.only(np.flatnonzero(~np.isin(rows.numbers(), list(numbers))))


def repeats(rows: StoredRows, names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Places of rows whose values of these columns came before, each with the first place of the same values."""
    hashes = _hashes(rows, names)
    values, counts = np.unique(hashes, return_counts=True)
    first: dict[tuple, int] = {}
    for place in np.flatnonzero(np.isin(hashes, values[counts > 1])).tolist():
        before = first.setdefault(_key(rows[place], names), place)
        if before != place:
            yield place, before


def opposites(rows: StoredRows, names: Sequence[str], others: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Places of rows whose columns ``others`` hold what the columns ``names`` of a row do, and the first such place."""
    ours, theirs = _hashes(rows, names), _hashes(rows, others)
    first: dict[tuple, int] = {}
    for place in np.flatnonzero(np.isin(ours, theirs)).tolist():
        first.setdefault(_key(rows[place], names), place)
    for place in np.flatnonzero(np.isin(theirs, ours)).tolist():
        if (before := first.get(_key(rows[place], others))) is not None:
            yield place, before


def _hashes(rows: StoredRows, names: Sequence[str]) -> np.ndarray:
    """Of 8 bytes a row; those that are equal are compared by their values."""
    return np.fromiter((hash(_key(row, names)) for row in rows), dtype=np.int64, count=len(rows))


def _key(row: Row, names: Sequence[str]) -> tuple:
    return tuple(row[name] for name in names)
