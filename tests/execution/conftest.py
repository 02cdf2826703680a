"""A small stage of each kind, run by any number of workers."""

from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import Dataset

from selfie.config.execution import ExecutionParameters
from selfie.generation.engine import Sampling
from selfie.generation.sampling import sample_responses
from selfie.models.checkpoint import Checkpoint
from selfie.storage.rows import load_rows, save_rows
from selfie.storage.shards import Shards

SHARD_ROWS = 5
Sample = Callable[[str, ExecutionParameters], Dataset]


@pytest.fixture
def prompts(tmp_path: Path) -> Dataset:
    """Twelve of different lengths, on disk as a stage's inputs are."""
    rows = [{"prompt_id": str(n), "messages": [{"role": "user", "content": f"t{n}a " * (n + 1)}]} for n in range(12)]
    save_rows(tmp_path / "prompts", Dataset.from_list(rows))
    return load_rows(tmp_path / "prompts")


@pytest.fixture
def sample(prompts: Dataset, tiny_checkpoint: Checkpoint, tmp_path: Path) -> Sample:
    """``sample(folder, execution)``: two responses a prompt, in five shards."""

    def draw(folder: str, execution: ExecutionParameters) -> Dataset:
        return sample_responses(
            tiny_checkpoint,
            prompts,
            2,
            Sampling(1.0, 1.0, 12),
            engine="transformers",
            batch_tokens=40,
            max_length=64,
            purpose="test",
            seed=0,
            shards=Shards(tmp_path / folder, SHARD_ROWS, execution),
        )

    return draw
