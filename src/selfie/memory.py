"""Memory that is given back between models, and between shards of work."""

import ctypes
import gc
import sys

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
