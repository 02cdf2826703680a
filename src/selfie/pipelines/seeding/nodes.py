"""Nodes of the seeding pipeline."""

from itertools import groupby
from pathlib import Path

import pandas as pd
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from selfie.checkpoints import Checkpoint
from selfie.errors import DataError
from selfie.generation.engine import Sampling
from selfie.generation.sample import render, sample_responses
from selfie.judges.gold import gold_scorer
from selfie.judges.reward_model import train_reward_model
from selfie.parameters import GenerationParameters, JudgingParameters, OptimizerParameters, SeedLabellingParameters
from selfie.randomness import derive_seed
from selfie.training.pairs import with_reference


def sample_seeds(
    seed_prompts: Dataset, initial_model: Checkpoint, generation: GenerationParameters, max_length: int, seed: int
) -> Dataset:
    """Several responses of the initial model to each seed prompt."""
    rows = sample_responses(
        initial_model,
        seed_prompts,
        generation.samples_per_prompt,
        Sampling(generation.temperature, generation.top_p, generation.max_new_tokens),
        engine=generation.engine,
        batch_tokens=generation.batch_tokens,
        max_length=max_length,
        purpose="seed_labelling",
        seed=seed,
    )
    return Dataset.from_list(rows)


def label_responses(responses: Dataset, parameters: SeedLabellingParameters, gold: str) -> pd.DataFrame:
    """The annotator's best and worst response to each prompt, where the choice between them is clear."""
    scorer = gold_scorer(gold)
    pairs = []
    for prompt, group in groupby(responses, key=lambda row: row["prompt"]):
        ranked = sorted(group, key=lambda row: scorer(prompt, row["response"]))
        best, worst = ranked[-1], ranked[0]
        if scorer(prompt, best["response"]) - scorer(prompt, worst["response"]) >= parameters.clear_gap:
            pairs.append(
                {
                    "prompt": prompt,
                    "chosen": best["response"],
                    "rejected": worst["response"],
                    "chosen_finish_reason": best["finish_reason"],
                    "rejected_finish_reason": worst["finish_reason"],
                }
            )
    return pd.DataFrame(pairs[: parameters.pairs])


def fit_reward_model(
    seed_preferences: Dataset,
    initial_model: Checkpoint,
    workspace: Path,
    parameters: OptimizerParameters,
    seed_pairs: int | None,
    seed: int,
) -> Checkpoint:
    """A reward model from the same pairs that policy 0 learns from, for the judge ``reward_model``."""
    pairs = _first(seed_preferences, seed_pairs)
    return train_reward_model(initial_model, pairs, parameters, derive_seed(seed, "reward_model"), workspace)


def tokenize_pairs(
    seed_preferences: Dataset,
    initial_model: Checkpoint,
    seed_pairs: int | None,
    max_length: int,
    parameters: JudgingParameters,
) -> Dataset:
    """Renders prompts with the chat template, ends whole responses with EOS, adds the initial model's log-probs."""
    tokenizer = initial_model.load_tokenizer()
    rows = []
    for number, pair in enumerate(_first(seed_preferences, seed_pairs)):
        prompt_ids = render(tokenizer, pair["messages"])
        room = max_length - len(prompt_ids)
        if room <= 0:
            raise DataError(
                f"seed preferences, row {pair['row']}",
                f"the prompt alone has {len(prompt_ids)} tokens",
                f"shorten it, or raise the parameter max_length ({max_length})",
            )
        responses = {
            f"{side}_ids": _response_ids(tokenizer, pair[side], pair[f"{side}_finish_reason"])[:room]
            for side in ("chosen", "rejected")
        }
        rows.append(
            {
                "pair": number,
                "iteration": 0,
                "prompt_id": pair["prompt_id"],
                "prompt": pair["messages"][-1]["content"],
                "prompt_ids": prompt_ids,
                "chosen": pair["chosen"],
                "rejected": pair["rejected"],
                **responses,
            }
        )
    return with_reference(Dataset.from_list(rows), initial_model, parameters.batch_tokens)


def _first(preferences: Dataset, count: int | None) -> Dataset:
    return preferences if count is None else preferences.take(min(count, len(preferences)))


def _response_ids(tokenizer: PreTrainedTokenizerBase, text: str, finish_reason: str) -> list[int]:
    end = [tokenizer.eos_token_id] if finish_reason == "stop" else []
    return [*tokenizer(text, add_special_tokens=False)["input_ids"], *end]
