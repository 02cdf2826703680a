"""Long work in shards of consecutive rows: memory holds one of them, and a killed run redoes only that one."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from datasets import Dataset, concatenate_datasets

from selfie.config.execution import DEFAULT_EXECUTION, ExecutionParameters
from selfie.runtime.memory import trim_memory
from selfie.storage.commit import damage, is_committed, set_aside
from selfie.storage.rows import load_rows, save_rows

logger = logging.getLogger(__name__)
Compute = Callable[[range], Dataset]
"""From the numbers of a shard's rows to their results, of the same columns in every shard."""


class Shard(NamedTuple):
    """One of them: where its results go, and the numbers of its rows."""

    file: Path
    rows: range

    def commit(self, compute: Compute) -> None:
        """Computes it, and commits the results."""
        logger.debug("computing %s", self.file)
        save_rows(self.file, compute(self.rows))
        logger.debug("committed %s", self.file)
        trim_memory()


@dataclass(frozen=True)
class Shards:
    """Shards of ``rows`` rows in ``folder``, which belongs to one piece of work with fixed inputs.

    Batches must be formed inside a shard only: bf16 rounds differently in another batch, so that a resumed run equals
    an uninterrupted one only if it forms the same batches. ``execution`` says who computes those that a model computes.
    """

    folder: Path
    rows: int
    execution: ExecutionParameters = DEFAULT_EXECUTION

    def within(self, name: str) -> "Shards":
        """Shards of a second piece of work in the same folder."""
        return replace(self, folder=self.folder / name)

    def missing(self, count: int) -> list[Shard]:
        """Those of ``count`` rows that are not committed; damaged ones are set aside."""
        self.folder.mkdir(parents=True, exist_ok=True)
        shards = self._all(count)
        (self.folder / f"shards-of-{len(shards)}").touch()
        missing = [shard for shard in shards if not _is_intact(shard.file)]
        if len(missing) < len(shards):
            done = len(shards) - len(missing)
            logger.info("%d of %d shards are committed: the others follow", done, len(shards))
        return missing

    def read(self, count: int) -> Dataset:
        """The results of all ``count`` rows, in order and memory-mapped from the shards' files."""
        parts: list[Dataset] = []
        for shard in self._all(count):
            parts.append(load_rows(shard.file))
            parts[-1].info.features = parts[0].info.features  # one for all shards: a tenth of what a shard takes
        return concatenate_datasets(parts)

    def _all(self, count: int) -> list[Shard]:
        firsts = range(0, count, self.rows)
        return [
            Shard(self.folder / f"shard-{number:06d}", range(first, min(first + self.rows, count)))
            for number, first in enumerate(firsts)
        ]


def in_shards(shards: Shards | None, compute: Compute, count: int) -> Dataset:
    """``compute`` of all rows in this process; each shard is committed, and read if it is there already.

    Without shards, all in one piece and in memory. What a model computes goes to
    :func:`selfie.execution.map_shards.map_shards`.
    """
    if shards is None:
        return compute(range(count))
    for shard in shards.missing(count):
        shard.commit(compute)
    return shards.read(count)


def _is_intact(file: Path) -> bool:
    if not is_committed(file):
        return False
    if damage(file) is not None:
        logger.warning("%s is damaged: set aside as %s, and computed anew", file, set_aside(file))
        return False
    return True
