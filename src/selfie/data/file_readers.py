"""Rows of JSONL, JSON, CSV and Parquet files, numbered; what is wrong with a single row does not hide the others."""

import codecs
import csv
import io
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import fsspec
import pyarrow
import pyarrow.parquet

from selfie.errors import DataError

Row = dict[str, Any]
LONGEST_FIELD = 2**31 - 1  # the csv module's own limit is 128 KiB; what is too long is said of the row, not of the file
PARQUET_ROWS = 1000  # at once


class Problem(NamedTuple):
    """Why a row can't be used, and what to do. A repeated row is not ``fatal``: it counts once."""

    row: int
    problem: str
    remedy: str
    fatal: bool = True


def read_file(path: str) -> Iterator[tuple[int, Row | Problem]]:
    """The file's rows in order; text files count lines from 1, the others rows from 0.

    JSONL and Parquet are read as the rows are asked for, JSON and CSV as a whole.

    Args:
        path: local, or any URL that fsspec reads; ``.gz`` at its end is unpacked.

    Raises:
        DataError: the file as a whole can't be read.
    """
    suffix = Path(path.removesuffix(".gz")).suffix
    if suffix not in READERS:
        raise DataError(path, f"the format {suffix!r} is not known", f"use one of {', '.join(READERS)}")
    try:
        with fsspec.open(path, "rb", compression="infer") as stream:
            # A server that doesn't say how long its answer is lets nobody seek in it.
            seekable = getattr(stream, "size", 0) is not None
            yield from READERS[suffix](path, stream if seekable else io.BytesIO(stream.read()))
    except FileNotFoundError as error:
        raise DataError(path, "the file does not exist", "create it, or name another one in the catalog") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(path, f"it can't be read ({error})", "name a file that can be read in the catalog") from error


def _read_jsonl(path: str, stream: BinaryIO) -> Iterator[tuple[int, Row | Problem]]:
    for number, line in enumerate(stream, start=1):
        content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if content.strip():
            yield number, _json_row(number, content.removesuffix(b"\n"))


def _json_row(number: int, line: bytes) -> Row | Problem:
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError:
        return Problem(number, "it is not UTF-8", "save the file as UTF-8")
    except (ValueError, RecursionError) as error:  # not all are JSONDecodeErrors: a number can be too long
        return Problem(number, f"it is not JSON ({error})", "one JSON object a line")
    if not isinstance(row, dict):
        return Problem(number, "it is not a JSON object", 'write {"prompt": …} a line')
    return row


def _read_json(path: str, stream: BinaryIO) -> Iterator[tuple[int, Row]]:
    try:
        rows = json.loads(_decode(path, stream.read()))
    except (ValueError, RecursionError) as error:
        raise DataError(path, f"it is not JSON ({error})", "write a list of objects, or use .jsonl") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(path, "it is not a list of objects", "write [{…}, {…}], or use .jsonl")
    yield from enumerate(rows)


def _read_csv(path: str, stream: BinaryIO) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(LONGEST_FIELD)
    reader = csv.DictReader(io.StringIO(_decode(path, stream.read()), newline=""), strict=True)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise DataError(
            f"{path}, row {reader.line_num}", f"it is not CSV ({error})", "quote fields with commas or line breaks"
        ) from error


def _read_parquet(path: str, stream: BinaryIO) -> Iterator[tuple[int, Row]]:
    try:
        batches = pyarrow.parquet.ParquetFile(stream).iter_batches(PARQUET_ROWS)
        yield from enumerate(row for batch in batches for row in batch.to_pylist())
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(path, f"it is not a Parquet file that can be read ({error})", "write it again") from error


def _decode(path: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, row {row}", "it is not UTF-8", "save the file as UTF-8") from error


READERS: dict[str, Callable[[str, BinaryIO], Iterator[tuple[int, Row | Problem]]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
