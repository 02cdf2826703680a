"""A small stage of each kind, run by any number of workers."""

from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import Dataset

from sampled import sample_two, uneven_prompts
from selfie.config.execution import ExecutionParameters
from selfie.models.checkpoint import Checkpoint
from selfie.storage.rows import load_rows, save_rows
from selfie.storage.shards import Shards

SHARD_ROWS = 5
Sample = Callable[[str, ExecutionParameters], Dataset]


@pytest.fixture
def prompts(tmp_path: Path) -> Dataset:
    """Twelve of different lengths, on disk as a stage's inputs are."""
    save_rows(tmp_path / "prompts", uneven_prompts(12))
    return load_rows(tmp_path / "prompts")


@pytest.fixture
def sample(prompts: Dataset, tiny_checkpoint: Checkpoint, tmp_path: Path) -> Sample:
    """``sample(folder, execution)``: two responses a prompt, in five shards."""

    def draw(folder: str, execution: ExecutionParameters) -> Dataset:
        return sample_two(tiny_checkpoint, prompts, Shards(tmp_path / folder, SHARD_ROWS, execution))

    return draw
