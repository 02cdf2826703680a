"""Memory that is given back between models, and between shards of work."""

import ctypes
import gc
from functools import cache
from typing import Any

import torch


def free_memory() -> None:
    """Gives back what nothing refers to any more: models and tensors hang in cycles."""
    gc.collect()
    trim_memory()
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()


def trim_memory() -> None:
    """Gives the system what was freed on the CPU: glibc keeps it in pieces that hardly fit other shapes."""
    library = _c_library()
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


@cache
def _c_library() -> Any:
    return ctypes.CDLL(None)
