"""Nodes of the judging pipeline."""

from pathlib import Path

from datasets import Dataset

from selfie.checkpoints import Checkpoint
from selfie.datasets.shards import Shards
from selfie.judges.pairs import build_pairs
from selfie.judges.rewards import response_rewards
from selfie.parameters import JudgingParameters
from selfie.scoring.sequence_log_probs import score


def score_responses(
    responses: Dataset,
    previous_policy: Checkpoint,
    initial_model: Checkpoint,
    workspace: Path,
    parameters: JudgingParameters,
) -> Dataset:
    """Adds log π_{i-1}(y|x) and log π_init(y|x), summed over the response's tokens."""
    prompts, sampled = responses["prompt_ids"], responses["response_ids"]
    shards = Shards(workspace, parameters.shard_rows)
    for column, model in (("policy_log_prob", previous_policy), ("initial_log_prob", initial_model)):
        name = column.removesuffix("_log_prob")
        log_probs = score(model, prompts, sampled, parameters.batch_tokens, name, shards.within(name))
        responses = responses.add_column(column, log_probs)
    return responses


def judge_responses(
    scored: Dataset,
    workspace: Path,
    parameters: JudgingParameters,
    beta: float,
    gold: str | None,
    judge_model: Checkpoint | None = None,
) -> Dataset:
    """The best and the worst response of each prompt, by the judge's reward."""
    shards = Shards(workspace, parameters.shard_rows)
    rewards = response_rewards(scored, parameters, beta, gold, judge_model, shards)
    return build_pairs(scored, rewards, parameters.weighting, shards.within("pairs"))
