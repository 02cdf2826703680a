"""Memory: kept from one batch to the next, given back between models and between shards of work."""

import ctypes
import gc
import sys
from functools import cache

import torch


def free_memory() -> None:
    """Gives back what nothing refers to any more: models and tensors hang in cycles."""
    gc.collect()
    trim_memory()
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()


def trim_memory() -> None:
    """Gives the system what was freed on the CPU: glibc keeps it in pieces that hardly fit other shapes."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):  # musl has none
        library.malloc_trim(0)


@cache
def reuse_memory() -> None:
    """What a batch frees serves the next one, where models are computed on the CPU.

    glibc would hand everything of 32 MiB and more back to the system at once, and get it again page by page, each
    cleared by the kernel: a sixth of judging's time went there (docs/performance.md). See ``man mallopt``.
    """
    on_cpu = not torch.accelerator.is_available()
    if on_cpu and sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        trim_threshold, mmap_max = -1, -4
        library.mallopt(mmap_max, 0)
        library.mallopt(trim_threshold, 2**31 - 1)
