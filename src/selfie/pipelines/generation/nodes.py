"""Nodes of the generation pipeline."""

from pathlib import Path

import numpy as np
from datasets import Dataset

from selfie.config.execution import DEFAULT_EXECUTION, ExecutionParameters
from selfie.config.parameters import GenerationParameters
from selfie.generation.engine import Sampling
from selfie.generation.sampling import beside_one_another, sample_responses
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import sampling_arithmetic
from selfie.runtime.random_seeds import derive_seed
from selfie.storage.shards import Shards

STEP_VERSIONS = {
    "split_prompts": 1,
    "generate_responses": 2,
}


def split_prompts(prompts: Dataset, prompts_per_iteration: list[int], seed: int, iterations: int) -> list[Dataset]:
    """Shuffles the prompts and deals them out: no prompt is used twice. Rows gain ``iteration``.

    A run may have fewer iterations than are planned; each gets the prompts that it has in a longer one.
    """
    splits, first = [], 0
    for iteration, count in enumerate(prompts_per_iteration[:iterations], start=1):
        # In memory: the order of the rows; what is cached would lie among the prompts' own files.
        numbered = prompts.add_column("iteration", np.full(len(prompts), iteration))
        shuffled = numbered.shuffle(seed=derive_seed(seed, "prompts") % 2**32, keep_in_memory=True)
        splits.append(shuffled.select(range(first, first + count)))
        first += count
    return splits


def generate_responses(
    prompts: Dataset,
    previous_policy: Checkpoint,
    initial_model: Checkpoint,
    workspace: Path,
    parameters: GenerationParameters,
    precision: str,
    max_length: int,
    seed: int,
    execution: ExecutionParameters = DEFAULT_EXECUTION,
) -> Dataset:
    """Several responses to each prompt, as the very token ids that were sampled; ``source`` says by which model."""
    iteration = prompts[0]["iteration"]
    shards = Shards(workspace, parameters.shard_rows, execution)
    initial_samples = parameters.initial_samples
    counts = {"policy": parameters.samples_per_prompt - initial_samples, "initial": initial_samples}
    models = {"policy": previous_policy, "initial": initial_model}
    parts = {
        source: sample_responses(
            models[source],
            prompts,
            count,
            Sampling(parameters.temperature, parameters.top_p, parameters.max_new_tokens),
            engine=parameters.engine,
            batch_tokens=parameters.batch_tokens,
            max_length=max_length,
            purpose=f"iteration_{iteration}" if source == "policy" else f"iteration_{iteration}_{source}",
            seed=seed,
            shards=shards if source == "policy" else shards.within(source),
            arithmetic=sampling_arithmetic(precision, models[source]),
        )
        for source, count in counts.items()
        if count
    }
    return beside_one_another(
        {source: part.add_column("iteration", np.full(len(part), iteration)) for source, part in parts.items()}
    )
