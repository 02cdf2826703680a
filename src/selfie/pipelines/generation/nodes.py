"""Nodes of the generation pipeline."""

from pathlib import Path

import numpy as np
from datasets import Dataset

from selfie.config.parameters import GenerationParameters
from selfie.generation.engine import Sampling
from selfie.generation.sampling import sample_responses
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import sampling_arithmetic
from selfie.runtime.random_seeds import derive_seed
from selfie.storage.shards import Shards

STEP_VERSIONS = {
    "split_prompts": 1,
    "generate_responses": 1,
    "sample_support": 1,
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
    workspace: Path,
    parameters: GenerationParameters,
    precision: str,
    max_length: int,
    seed: int,
) -> Dataset:
    """Several responses of the previous policy to each prompt, as the very token ids that were sampled."""
    iteration = prompts[0]["iteration"]
    samples, purpose = parameters.samples_per_prompt, f"iteration_{iteration}"
    responses = _sample(previous_policy, prompts, samples, parameters, precision, max_length, purpose, seed, workspace)
    return responses.add_column("iteration", np.full(len(responses), iteration))


def sample_support(
    prompts: Dataset,
    initial_model: Checkpoint,
    workspace: Path,
    parameters: GenerationParameters,
    precision: str,
    max_length: int,
    seed: int,
) -> Dataset:
    """One response of the initial model to each prompt: what it says by itself."""
    return _sample(initial_model, prompts, 1, parameters, precision, max_length, "support", seed, workspace)


def _sample(
    model: Checkpoint,
    prompts: Dataset,
    samples: int,
    parameters: GenerationParameters,
    precision: str,
    max_length: int,
    purpose: str,
    seed: int,
    workspace: Path,
) -> Dataset:
    return sample_responses(
        model,
        prompts,
        samples,
        Sampling(parameters.temperature, parameters.top_p, parameters.max_new_tokens),
        engine=parameters.engine,
        batch_tokens=parameters.batch_tokens,
        max_length=max_length,
        purpose=purpose,
        seed=seed,
        shards=Shards(workspace, parameters.shard_rows),
        arithmetic=sampling_arithmetic(precision, model),
    )
