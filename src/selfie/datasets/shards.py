"""Long work in shards of consecutive rows: a killed run redoes only the shard that it was in."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kedro.io import DatasetError

from selfie.datasets.commit import commit_file, is_committed, set_aside, verify

logger = logging.getLogger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Shards:
    """Shards of ``rows`` rows in ``folder``, which belongs to one piece of work with fixed inputs.

    Batches must be formed inside a shard only: bf16 rounds differently in another batch, so that a resumed run equals
    an uninterrupted one only if it forms the same batches.
    """

    folder: Path
    rows: int

    def within(self, name: str) -> "Shards":
        """Shards of a second piece of work in the same folder."""
        return Shards(self.folder / name, self.rows)

    def map(self, compute: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item]) -> list[Result]:
        """``compute`` of every shard's items, in order; each shard is committed, and read if it is there already.

        Args:
            compute: from a shard's items to as many results, of what JSON can hold.
            items: all of them.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        files = [self.folder / f"{first // self.rows:06d}.json" for first in range(0, len(items), self.rows)]
        (self.folder / f"shards-of-{len(files)}").touch()
        committed = [_read(file) for file in files]
        if any(part is not None for part in committed):
            count = sum(part is not None for part in committed)
            logger.info("%d of %d shards are committed: the others follow", count, len(files))
        results: list[Result] = []
        for number, (file, part) in enumerate(zip(files, committed, strict=True)):
            results.extend(self._compute(compute, items, number, file) if part is None else part)
        return results

    def _compute(
        self, compute: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], number: int, file: Path
    ) -> list[Result]:
        logger.debug("computing %s", file)
        part = compute(items[number * self.rows : (number + 1) * self.rows])
        commit_file(file, lambda new: _write(new, part))
        logger.debug("committed %s", file)
        return part


def _write(file: Path, part: list) -> None:
    file.write_text(json.dumps(part))


def _read(file: Path) -> list | None:
    if not is_committed(file):
        return None
    try:
        verify(file)
    except DatasetError:
        logger.warning("%s is damaged: set aside as %s, and computed anew", file, set_aside(file))
        return None
    return json.loads(file.read_text())
