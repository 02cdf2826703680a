"""Workers that end badly; worker processes import this module by its name."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datasets import Dataset

from selfie.errors import DataError
from selfie.storage.shards import Compute

DEADLY_ROW = 7
HOURS = 36_000


def squares(rows: range) -> Dataset:
    """Each row's number, squared; and the process that did it."""
    return Dataset.from_dict({"square": [row**2 for row in rows], "process": [os.getpid()] * len(rows)})


@contextmanager
def open_killed(marks: Path, times: int) -> Iterator[Compute]:
    """Kills itself at one row, so many times."""

    def compute(rows: range) -> Dataset:
        if DEADLY_ROW in rows and len(list(marks.iterdir())) < times:
            (marks / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return squares(rows)

    yield compute


@contextmanager
def open_slow(marks: Path) -> Iterator[Compute]:
    """Says which process it is, and computes for hours."""

    def compute(rows: range) -> Dataset:
        (marks / str(os.getpid())).touch()
        time.sleep(HOURS)
        return squares(rows)

    yield compute


@contextmanager
def open_refusing() -> Iterator[Compute]:
    """Finds one row that the user has to mend."""

    def compute(rows: range) -> Dataset:
        if DEADLY_ROW in rows:
            raise DataError("file.jsonl, row 7", "it is empty", "fill it")
        return squares(rows)

    yield compute


@contextmanager
def open_unopenable() -> Iterator[Compute]:
    """Can't be opened."""
    raise RuntimeError("no such thing")
    yield squares


@contextmanager
def open_seeing() -> Iterator[Compute]:
    """Tells what the worker computes on, and which foreign modules it has loaded."""
    import logging
    import sys

    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    foreign = sorted({"kedro.framework.cli", "flask", "mlflow"} & sys.modules.keys())

    def compute(rows: range) -> Dataset:
        logging.getLogger("selfie.test").warning("row %d is odd", rows[0])
        seen = {"cores": cores, "threads": torch.get_num_threads(), "foreign": ",".join(foreign)}
        return Dataset.from_list([{**seen, "process": os.getpid()} for _ in rows])

    yield compute
