"""Nodes of the judging pipeline."""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from selfie.config.execution import DEFAULT_EXECUTION, ExecutionParameters
from selfie.config.gold import GoldParameters
from selfie.config.parameters import JudgingParameters
from selfie.generation.sampling import sampled_by
from selfie.judges.label_agreement import measure_agreement, measure_sampling
from selfie.judges.preference_pairs import build_pairs
from selfie.judges.response_rewards import response_rewards
from selfie.judges.support import beyond_bounds, measure_bounds
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import Arithmetic, sampling_arithmetic, scoring_candidates
from selfie.scoring.log_probs import score
from selfie.storage.shards import Shards

STEP_VERSIONS = {
    "measure_precision": 2,
    "score_responses": 1,
    "judge_responses": 3,
}


def measure_precision(
    responses: Dataset,
    previous_policy: Checkpoint,
    initial_model: Checkpoint,
    batch_tokens: int,
    scoring: str,
    sampling: str,
) -> dict[str, Any]:
    """Chooses the arithmetic of the judge, by label agreement with float32; how far sampling's moved the policy."""
    models, candidates = (previous_policy, initial_model), scoring_candidates(scoring, previous_policy)
    sampled_in = sampling_arithmetic(sampling, previous_policy)
    return {
        **measure_agreement(responses, *models, candidates, batch_tokens),
        **measure_sampling(sampled_by(responses, "policy"), *models, sampled_in, batch_tokens),
    }


def score_responses(
    responses: Dataset,
    previous_policy: Checkpoint,
    initial_model: Checkpoint,
    precision: dict[str, Any],
    workspace: Path,
    batch_tokens: int,
    shard_rows: int,
    execution: ExecutionParameters = DEFAULT_EXECUTION,
) -> Dataset:
    """Adds log π_{i-1}(y|x) and log π_init(y|x), summed over the response's tokens, both in the chosen arithmetic."""
    arithmetic = Arithmetic(precision["scoring"])
    prompts, sampled = responses["prompt_ids"], responses["response_ids"]
    shards = Shards(workspace, shard_rows, execution)
    for column, model in (("policy_log_prob", previous_policy), ("initial_log_prob", initial_model)):
        name = column.removesuffix("_log_prob")
        log_probs = score(model, prompts, sampled, batch_tokens, name, shards.within(name), arithmetic)
        responses = responses.add_column(column, log_probs)
    return responses


def judge_responses(
    scored: Dataset,
    workspace: Path,
    parameters: JudgingParameters,
    precision: str,
    beta: float,
    gold: GoldParameters | None,
    execution: ExecutionParameters = DEFAULT_EXECUTION,
    judge_model: Checkpoint | None = None,
) -> Dataset:
    """The best and the worst response of each prompt, by the judge's reward, of those that the parameters admit."""
    shards = Shards(workspace, parameters.shard_rows, execution)
    rewards = response_rewards(scored, parameters, beta, gold, judge_model, shards, precision)
    outside = None
    if parameters.support_percentile:
        bounds = measure_bounds(sampled_by(scored, "initial"), parameters.support_percentile)
        outside = beyond_bounds(scored, bounds)
    complete = None if parameters.choose_truncated else torch.tensor([r == "stop" for r in scored["finish_reason"]])
    return build_pairs(scored, rewards, parameters.weighting, outside, complete, shards.within("pairs"))
