"""Long work in shards of consecutive rows: memory holds one of them, and a killed run redoes only that one."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset, concatenate_datasets
from kedro.io import DatasetError

from selfie.runtime.memory import trim_memory
from selfie.storage.commit import is_committed, set_aside
from selfie.storage.rows import load_rows, save_rows

logger = logging.getLogger(__name__)


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

    def map(self, compute: Callable[[range], Dataset], count: int) -> Dataset:
        """``compute`` of every shard's row numbers, in order; each is committed, and read if it is there already.

        Args:
            compute: from the numbers of a shard's rows to their results, of the same columns in every shard.
            count: how many rows there are.

        Returns:
            All results, memory-mapped from the shards' files.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        files = [self.folder / f"shard-{first // self.rows:06d}" for first in range(0, count, self.rows)]
        (self.folder / f"shards-of-{len(files)}").touch()
        committed = {number: part for number, file in enumerate(files) if (part := _read(file)) is not None}
        if committed:
            logger.info("%d of %d shards are committed: the others follow", len(committed), len(files))
        parts: list[Dataset] = []
        for number, file in enumerate(files):
            part = committed.get(number)
            if part is None:
                logger.debug("computing %s", file)
                save_rows(file, compute(range(count)[number * self.rows : (number + 1) * self.rows]))
                part = load_rows(file)
                logger.debug("committed %s", file)
                trim_memory()
            parts.append(part)
            part.info.features = parts[0].info.features  # one for all shards: a tenth of what a shard takes
        return concatenate_datasets(parts)


def in_shards(shards: Shards | None, compute: Callable[[range], Dataset], count: int) -> Dataset:
    """``shards.map(compute, count)``; without shards, all in one piece and in memory."""
    return compute(range(count)) if shards is None else shards.map(compute, count)


def _read(file: Path) -> Dataset | None:
    if not is_committed(file):
        return None
    try:
        return load_rows(file)
    except DatasetError:
        logger.warning("%s is damaged: set aside as %s, and computed anew", file, set_aside(file))
        return None
