"""Shards are handed out one at a time; what a dead worker had is repeated by another, not without end."""

import logging
from collections import Counter, deque
from collections.abc import Collection, Sequence
from typing import Protocol, TypeVar

from tqdm.auto import tqdm

from selfie.errors import EngineError
from selfie.storage.commit import announce
from selfie.storage.shards import Shard

logger = logging.getLogger(__name__)
TRIES = 3  # of one shard, and of opening a worker where none has opened since
Worker = TypeVar("Worker")


class Pool(Protocol[Worker]):
    """Workers of one kind. None of its functions but ``wait`` waits for anything."""

    def start(self) -> list[Worker]:
        """Starts all of them; each opens its model."""
        ...

    def replace(self, dead: Worker) -> Worker:
        """Starts another one on the dead one's device."""
        ...

    def give(self, worker: Worker, shard: Shard) -> None:
        """Lets it compute and commit the shard."""
        ...

    def wait(self, busy: Collection[Worker]) -> tuple[Worker, str | None]:
        """The first of them that is done with what it does, or has died, and then why.

        Raises:
            UserError: what it raised, which no repetition would mend.
        """
        ...


def share_out(pool: Pool[Worker], shards: Sequence[Shard]) -> None:
    """Returns when all are committed.

    Raises:
        EngineError: workers died three times over one shard, or while they opened.
    """
    waiting, deaths = deque(shards), Counter[Shard | None]()
    busy: dict[Worker, Shard | None] = dict.fromkeys(pool.start())  # None: it opens its model
    idle: list[Worker] = []
    committed = 0
    with tqdm(total=sum(len(shard.rows) for shard in shards), desc=f"{len(busy)} workers", unit="row") as progress:
        while committed < len(shards):
            worker, death = pool.wait(busy)
            shard = busy.pop(worker)
            if death is None:
                idle.append(worker)
                if shard is not None:
                    announce(shard.file)
                committed += shard is not None
                progress.update(len(shard.rows) if shard else 0)
                deaths[None] = 0
            else:
                deaths[shard] += 1
                _report(shard, death, deaths[shard])
                if shard is not None:
                    waiting.appendleft(shard)
                busy[pool.replace(worker)] = None
            while idle and waiting:
                worker, shard = idle.pop(), waiting.popleft()
                busy[worker] = shard
                pool.give(worker, shard)


def _report(shard: Shard | None, death: str, times: int) -> None:
    what = "while it opened its model" if shard is None else f"at {shard.file}"
    if times < TRIES:
        logger.warning("a worker died %s and is replaced: %s", what, death)
        return
    remedy = "see the log; with fewer execution.workers each has more memory. Finished shards are kept"
    raise EngineError("worker", f"{times} of them died {what}, one after the other. Of the last one: {death}", remedy)
