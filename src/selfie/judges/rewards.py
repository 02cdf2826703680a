"""A judge turns scored responses into rewards; the higher one is preferred."""

from collections.abc import Iterable
from itertools import combinations, groupby

import torch
from datasets import Dataset
from torch import Tensor

from selfie.checkpoints import Checkpoint
from selfie.datasets.shards import Shards
from selfie.errors import ConfigurationError
from selfie.judges.gold import gold_scorer
from selfie.judges.reward_model import reward_model_scores
from selfie.judges.verdict import VerdictPrompt, verdict_probabilities
from selfie.parameters import JudgingParameters
from selfie.preference.judgment import implicit_reward, length_neutral


def response_rewards(
    scored: Dataset,
    parameters: JudgingParameters,
    beta: float,
    gold: str | None,
    judge_model: Checkpoint | None = None,
    shards: Shards | None = None,
) -> Tensor:
    """One reward a response, shape [rows].

    Args:
        scored: rows of responses, a prompt's rows together, with ``policy_log_prob`` and ``initial_log_prob``.
        parameters: ``judge`` is ``logit`` (SPA's direct preference judgment), ``llm`` (the judge model is asked in
            words), ``reward_model``, or ``gold`` (the upper bound: the annotator that the loop otherwise never sees).
        beta: β of the implicit reward.
        gold: the gold annotator.
        judge_model: whom ``llm`` and ``reward_model`` ask.
        shards: where its finished shards are kept until all are there.
    """
    if parameters.judge == "logit":
        policy, initial = (
            torch.tensor(scored[f"{name}_log_prob"], dtype=torch.float64) for name in ("policy", "initial")
        )
        rewards = implicit_reward(policy, initial, beta)
        if parameters.length == "summed":
            return rewards
        lengths = torch.tensor([len(ids) for ids in scored["response_ids"]])
        return length_neutral(rewards, lengths, _numbers(scored["prompt_id"]))
    prompts, responses = scored["prompt"][:], scored["response"][:]
    if parameters.judge == "gold":
        if gold is None:
            raise ConfigurationError("judging.judge", "the gold judge needs a gold annotator", "set the parameter gold")
        scorer = gold_scorer(gold)
        return torch.tensor(list(map(scorer, prompts, responses)), dtype=torch.float64)
    assert judge_model is not None
    if parameters.judge == "reward_model":
        return reward_model_scores(judge_model, prompts, responses, parameters.batch_tokens, shards)
    return _asked_rewards(judge_model, scored["prompt_id"][:], prompts, responses, parameters, shards)


def _numbers(prompt_ids: Iterable[str]) -> Tensor:
    numbers: dict[str, int] = {}
    return torch.tensor([numbers.setdefault(name, len(numbers)) for name in prompt_ids])


def _asked_rewards(
    judge: Checkpoint,
    prompt_ids: list,
    prompts: list[str],
    responses: list[str],
    parameters: JudgingParameters,
    shards: Shards | None,
) -> Tensor:
    """Every two responses of a prompt are compared; a response's reward is its mean log-odds against all of them.

    With two responses the difference of their rewards is the log-odds of the verdict, so that the Bradley–Terry
    probability of the pair is the judge's own.
    """
    assert parameters.question is not None
    groups = [list(group) for _, group in groupby(range(len(prompts)), key=lambda i: prompt_ids[i])]
    pairs = [pair for group in groups for pair in combinations(group, 2)]
    first, second = ([responses[pair[side]] for pair in pairs] for side in (0, 1))
    question = VerdictPrompt(parameters.question.template, *parameters.question.verdicts)
    probabilities = verdict_probabilities(
        judge, [prompts[i] for i, _ in pairs], first, second, question, parameters.batch_tokens, shards
    ).mean(dim=1)
    log_odds = torch.logit(probabilities, eps=1e-6)
    rewards = torch.zeros(len(prompts), dtype=torch.float64)
    size = {i: len(group) for group in groups for i in group}
    for (i, j), value in zip(pairs, log_odds.tolist(), strict=True):
        rewards[i] += value / size[i]
        rewards[j] -= value / size[j]
    return rewards
