"""Batches by a budget of tokens, and back-off to smaller ones where memory runs out."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from selfie.errors.disk_and_memory import is_out_of_memory
from selfie.runtime.memory import free_memory

logger = logging.getLogger(__name__)
Result = TypeVar("Result")


def token_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices in batches of similar length whose padded size (rows × longest) stays within the budget of tokens."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def with_oom_backoff(run: Callable[[list[int]], Sequence[Result]], batch: list[int]) -> list[Result]:
    """``run(batch)``; where memory runs out, ``run`` on its two halves, one after the other.

    In another batch bf16 rounds differently: such a run repeats itself only on a machine with as little memory.

    Raises:
        RuntimeError, MemoryError: not even one row fits.
    """
    try:
        return list(run(batch))
    except (RuntimeError, MemoryError) as error:
        if len(batch) == 1 or not is_out_of_memory(error):
            raise
    free_memory()  # outside of the handler, where the error no longer holds the batch's tensors
    half = len(batch) // 2
    logger.warning("out of memory with %d rows: going on with %d; a lower batch_tokens avoids this", len(batch), half)
    return with_oom_backoff(run, batch[:half]) + with_oom_backoff(run, batch[half:])
