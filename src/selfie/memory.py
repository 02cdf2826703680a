"""Memory: kept between batches, given back between models."""

import ctypes
import gc

import torch

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # glibc's names: mallopt(3)


def keep_freed_memory() -> None:
    """Lets the C library keep the memory that a batch frees, for the next one.

    glibc hands every large block back to the system as soon as it is freed, and each batch pays for its pages anew
    (mallopt(3)): a third of the head's time and more on a CPU. Where there is no glibc, nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, -1)


def free_memory() -> None:
    """Gives back what nothing refers to any more: models and tensors hang in cycles."""
    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
