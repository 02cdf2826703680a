"""Memory that is given back between models."""

import gc

import torch


def free_memory() -> None:
    """Gives back what nothing refers to any more: models and tensors hang in cycles."""
    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()
