"""Nodes of the judging pipeline."""

from datasets import Dataset

from selfie.checkpoints import Checkpoint
from selfie.judges.pairs import build_pairs
from selfie.judges.rewards import response_rewards
from selfie.parameters import JudgingParameters
from selfie.scoring.sequence_log_probs import score


def score_responses(
    responses: Dataset, previous_policy: Checkpoint, initial_model: Checkpoint, parameters: JudgingParameters
) -> Dataset:
    """Adds log π_{i-1}(y|x) and log π_init(y|x), summed over the response's tokens."""
    prompts, sampled = responses["prompt_ids"][:], responses["response_ids"][:]
    for column, model in (("policy_log_prob", previous_policy), ("initial_log_prob", initial_model)):
        name = column.removesuffix("_log_prob")
        responses = responses.add_column(column, score(model, prompts, sampled, parameters.batch_tokens, name))
    return responses


def judge_responses(
    scored: Dataset,
    parameters: JudgingParameters,
    beta: float,
    gold: str | None,
    judge_model: Checkpoint | None = None,
) -> Dataset:
    """The best and the worst response of each prompt, by the judge's reward."""
    return build_pairs(scored, response_rewards(scored, parameters, beta, gold, judge_model))
