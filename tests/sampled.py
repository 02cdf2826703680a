"""One small stage of sampling, for whoever shares it out or interrupts it."""

from datasets import Dataset

from selfie.generation.engine import Sampling
from selfie.generation.sampling import sample_responses
from selfie.models.checkpoint import Checkpoint
from selfie.storage.shards import Shards


def uneven_prompts(count: int) -> Dataset:
    """Each longer than the one before."""
    return Dataset.from_list(
        [{"prompt_id": str(n), "messages": [{"role": "user", "content": f"t{n}a " * (n + 1)}]} for n in range(count)]
    )


def sample_two(model: Checkpoint, prompts: Dataset, shards: Shards) -> Dataset:
    """Two responses a prompt, by the transformers engine, in batches that differ."""
    return sample_responses(
        model,
        prompts,
        2,
        Sampling(1.0, 1.0, 12),
        engine="transformers",
        batch_tokens=40,
        max_length=64,
        purpose="test",
        seed=0,
        shards=shards,
    )
