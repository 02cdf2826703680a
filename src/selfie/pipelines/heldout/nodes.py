"""Nodes of the held-out pipeline."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, interleave_datasets

from selfie.config.execution import DEFAULT_EXECUTION, ExecutionParameters
from selfie.config.parameters import JudgingParameters
from selfie.evaluation.heldout import audit_judges
from selfie.judges.prompted_policy import VerdictPrompt, verdict_probabilities
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import scoring_arithmetic
from selfie.preference.implicit_reward import length_neutral
from selfie.runtime.random_seeds import derive_seed
from selfie.scoring.log_probs import score
from selfie.storage.shards import Shards
from selfie.training.pairs import tokenize

STEP_VERSIONS = {
    "score_heldout": 1,
    "audit_initial": 1,
    "audit_policy": 1,
}

SIDES = ("chosen", "rejected")


def score_heldout(
    heldout_preferences: Dataset,
    policy: Checkpoint,
    workspace: Path,
    batch_tokens: int,
    shard_rows: int,
    precision: str,
    max_length: int,
    execution: ExecutionParameters = DEFAULT_EXECUTION,
) -> Dataset:
    """The policy's log-probs of both responses of pairs that nothing was trained on."""
    shards = Shards(workspace, shard_rows, execution)
    tokenizer = policy.load_tokenizer()
    pairs = tokenize(heldout_preferences, tokenizer, max_length, "held-out preferences", shards.within("pairs"))
    # The two responses of a pair next to each other: they share their prompt's computation.
    both = interleave_datasets(
        [pairs.select_columns(["prompt_ids", f"{side}_ids"]).rename_column(f"{side}_ids", "ids") for side in SIDES]
    )
    arithmetic = scoring_arithmetic(precision, policy)
    log_probs = score(policy, both["prompt_ids"], both["ids"], batch_tokens, "policy", shards, arithmetic)
    for number, side in enumerate(SIDES):
        pairs = pairs.add_column(f"{side}_log_prob", log_probs[number :: len(SIDES)])
    return pairs


def audit_initial(
    heldout_scores: Dataset,
    initial_model: Checkpoint,
    parameters: JudgingParameters,
    precision: str,
    seed: int,
) -> dict[str, Any]:
    """What the untrained model knows: its log-probs as they are, and its verdict where a question is set."""
    chosen, rejected = (np.array(heldout_scores[f"{side}_log_prob"]) for side in SIDES)
    margins = {"log_prob": chosen - rejected, "log_prob_per_token": _per_token(heldout_scores, chosen, rejected)}
    if parameters.question is not None:
        question = VerdictPrompt(parameters.question.template, *parameters.question.verdicts)
        prompts, better, worse = (heldout_scores[name] for name in ("prompt", "chosen", "rejected"))
        both = verdict_probabilities(
            initial_model,
            prompts,
            better,
            worse,
            question,
            parameters.batch_tokens,
            arithmetic=scoring_arithmetic(precision, initial_model),
        )
        margins["prompted_policy"] = both.mean(dim=1).numpy() - 0.5
    return audit_judges(_texts(heldout_scores), margins, derive_seed(seed, "heldout"))


def audit_policy(
    heldout_scores: Dataset, initial_scores: Dataset, parameters: JudgingParameters, seed: int
) -> dict[str, Any]:
    """The policy's implicit reward against the initial model, with length in it or not, and the run's own judge."""
    chosen, rejected = (
        np.array(heldout_scores[name]) - np.array(initial_scores[name])
        for name in ("chosen_log_prob", "rejected_log_prob")
    )
    margins = {
        "implicit_reward_summed": chosen - rejected,
        "implicit_reward_per_token": _per_token(heldout_scores, chosen, rejected),
        "implicit_reward_neutral": _length_neutral(heldout_scores, chosen, rejected),
    }
    audit = audit_judges(_texts(heldout_scores), margins, derive_seed(seed, "heldout"))
    accuracy, low, high = audit["judges"][f"implicit_reward_{parameters.length}"]["all"]
    return {**audit, "heldout_accuracy": accuracy, "heldout_accuracy_ci": [low, high]}


def _texts(pairs: Dataset) -> Dataset:
    return pairs.select_columns(["prompt_id", "chosen", "rejected"])


def _per_token(pairs: Dataset, chosen: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    lengths = (np.array([len(ids) for ids in pairs[f"{side}_ids"]]) for side in ("chosen", "rejected"))
    return chosen / next(lengths) - rejected / next(lengths)


def _length_neutral(pairs: Dataset, chosen: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    lengths = torch.tensor([len(ids) for side in ("chosen", "rejected") for ids in pairs[f"{side}_ids"]])
    rewards = length_neutral(torch.tensor([*chosen, *rejected]), lengths, torch.arange(len(chosen)).repeat(2))
    better, worse = rewards.chunk(2)
    return (better - worse).numpy()
