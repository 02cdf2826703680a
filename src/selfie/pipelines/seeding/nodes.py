"""Nodes of the seeding pipeline."""

import logging
from itertools import groupby
from pathlib import Path

import pandas as pd
from datasets import Dataset

from selfie.config.gold import GoldParameters
from selfie.config.parameters import (
    GenerationParameters,
    RewardModelParameters,
    SeedLabellingParameters,
)
from selfie.errors import ConfigurationError
from selfie.generation.engine import Sampling
from selfie.generation.sampling import sample_responses
from selfie.judges.gold import gold_scorer
from selfie.judges.reward_model import train_reward_model
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import sampling_arithmetic, trains_mixed
from selfie.runtime.random_seeds import derive_seed
from selfie.storage.shards import Shards
from selfie.training.pairs import tokenize

logger = logging.getLogger(__name__)

STEP_VERSIONS = {
    "sample_seeds": 2,
    "label_responses": 3,
    "fit_reward_model": 1,
    "tokenize_pairs": 1,
}


def sample_seeds(
    seed_prompts: Dataset,
    initial_model: Checkpoint,
    samples_per_prompt: int,
    generation: GenerationParameters,
    precision: str,
    max_length: int,
    seed: int,
) -> Dataset:
    """Several responses of the initial model to each seed prompt."""
    return sample_responses(
        initial_model,
        seed_prompts,
        samples_per_prompt,
        Sampling(generation.temperature, generation.top_p, generation.max_new_tokens),
        engine=generation.engine,
        batch_tokens=generation.batch_tokens,
        max_length=max_length,
        purpose="seed_labelling",
        seed=seed,
        arithmetic=sampling_arithmetic(precision, initial_model),
    )


def label_responses(
    responses: Dataset, parameters: SeedLabellingParameters, gold: GoldParameters | None
) -> pd.DataFrame:
    """The annotator's best and worst whole response to each prompt, where the choice between them is clear.

    Half an answer is not worth a human's label: that the token limit cut it is known without one, and a judge that is
    trained on such pairs is the worse judge of whole answers (docs/results/index.md).

    Raises:
        ConfigurationError: there is no annotator, or it finds no clear choice.
    """
    if gold is None:
        raise ConfigurationError("parameter gold", "seed labelling needs a gold annotator", "set gold.annotator")
    scorer = gold_scorer(gold)
    pairs = []
    for _, group in groupby(responses, key=lambda row: row["prompt_id"]):
        whole = [row for row in group if row["finish_reason"] == "stop"]
        if not whole:
            continue
        ranked = sorted(whole, key=lambda row: scorer(row["prompt"], row["response"]))
        worst, best = ranked[0], ranked[-1]
        prompt, messages = best["prompt"], best["messages"]
        if scorer(prompt, best["response"]) - scorer(prompt, worst["response"]) >= parameters.clear_gap:
            pairs.append(
                {
                    "prompt": messages if len(messages) > 1 else prompt,
                    "chosen": best["response"],
                    "rejected": worst["response"],
                    "chosen_finish_reason": best["finish_reason"],
                    "rejected_finish_reason": worst["finish_reason"],
                }
            )
    if not pairs:
        problem = f"no whole response to a prompt is better than another whole one by {parameters.clear_gap}"
        raise ConfigurationError("parameter seed_labelling.clear_gap", problem, "lower it, or sample more responses")
    return pd.DataFrame(pairs[: parameters.pairs])


def fit_reward_model(
    seed_preferences: Dataset,
    initial_model: Checkpoint,
    workspace: Path,
    parameters: RewardModelParameters,
    precision: str,
    seed_pairs: int | None,
    seed: int,
) -> Checkpoint:
    """A reward model from the same pairs that policy 0 learns from, for the judge ``reward_model``."""
    pairs = _first(seed_preferences, seed_pairs)
    mixed = trains_mixed(precision, initial_model)
    return train_reward_model(initial_model, pairs, parameters, derive_seed(seed, "reward_model"), workspace, mixed)


def tokenize_pairs(
    seed_preferences: Dataset,
    initial_model: Checkpoint,
    workspace: Path,
    seed_pairs: int | None,
    max_length: int,
    shard_rows: int,
) -> Dataset:
    """The human's pairs as token ids: prompts through the chat template, whole responses with their end token."""
    seeds = _first(seed_preferences, seed_pairs)
    shards = Shards(workspace, shard_rows)
    return tokenize(seeds, initial_model.load_tokenizer(), max_length, "seed preferences", shards)


def _first(preferences: Dataset, count: int | None) -> Dataset:
    if count is None or count >= len(preferences):
        return preferences
    logger.info("the first %d of %d seed pairs are used: see the parameter seed_pairs", count, len(preferences))
    return preferences.take(count)
