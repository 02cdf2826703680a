"""A judge turns scored responses into rewards; the higher one is preferred."""

from collections.abc import Iterable
from itertools import chain, combinations, groupby

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from selfie.config.parameters import JudgingParameters
from selfie.errors import ConfigurationError
from selfie.judges.gold import gold_scorer
from selfie.judges.prompted_policy import VerdictPrompt, verdict_probabilities
from selfie.judges.reward_model import reward_model_scores
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import Arithmetic, scoring_arithmetic
from selfie.preference.implicit_reward import implicit_reward, length_neutral
from selfie.storage.shards import Shards


def response_rewards(
    scored: Dataset,
    parameters: JudgingParameters,
    beta: float,
    gold: str | None,
    judge_model: Checkpoint | None = None,
    shards: Shards | None = None,
    precision: str = "auto",
) -> Tensor:
    """One reward a response, shape [rows].

    Args:
        scored: rows of responses, a prompt's rows together, with ``policy_log_prob`` and ``initial_log_prob``.
        parameters: ``judge`` is ``implicit_reward`` (SPA's direct preference judgment), ``prompted_policy`` (the judge
            model is prompted for a verdict), ``reward_model``, or ``gold`` (the upper bound: the gold annotator, which
            the loop otherwise never sees).
        beta: β of the implicit reward.
        gold: the gold annotator.
        judge_model: the model of ``prompted_policy`` and ``reward_model``.
        shards: where its finished shards are kept until all are there.
        precision: the judge model's, as ``precision.scoring``.
    """
    if parameters.judge == "implicit_reward":
        log_probs = scored.with_format("torch", dtype=torch.float64)
        rewards = implicit_reward(log_probs["policy_log_prob"][:], log_probs["initial_log_prob"][:], beta)
        if parameters.length == "summed":
            return rewards
        lengths = np.fromiter(map(len, scored["response_ids"]), np.int64)
        samples = _samples(scored["prompt_id"])
        prompt = np.arange(len(samples)).repeat(samples)
        return length_neutral(rewards, torch.from_numpy(lengths), torch.from_numpy(prompt))
    responses = scored["response"]
    if parameters.judge == "gold":
        if gold is None:
            raise ConfigurationError("judging.judge", "the gold judge needs a gold annotator", "set the parameter gold")
        scorer = gold_scorer(gold)
        return torch.tensor(list(map(scorer, scored["prompt"], responses)), dtype=torch.float64)
    assert judge_model is not None
    arithmetic = scoring_arithmetic(precision, judge_model)
    if parameters.judge == "reward_model":
        return reward_model_scores(
            judge_model, scored["messages"], responses, parameters.batch_tokens, shards, arithmetic
        )
    return _asked_rewards(judge_model, scored, parameters, shards, arithmetic)


def _samples(prompt_ids: Iterable[str]) -> np.ndarray:
    """How many responses each prompt has, shape [prompts]."""
    return np.fromiter((sum(1 for _ in group) for _, group in groupby(prompt_ids)), np.int64)


def _asked_rewards(
    judge: Checkpoint, scored: Dataset, parameters: JudgingParameters, shards: Shards | None, arithmetic: Arithmetic
) -> Tensor:
    """Every two responses of a prompt are compared; a response's reward is its mean log-odds against all of them.

    With two responses the difference of their rewards is the log-odds of the verdict, so that the Bradley–Terry
    probability of the pair is the judge's own.
    """
    assert parameters.question is not None
    samples = _samples(scored["prompt_id"])
    groups = (range(end - n, end) for end, n in zip(samples.cumsum(), samples, strict=True))
    both = chain.from_iterable(pair for group in groups for pair in combinations(group, 2))
    pairs = np.fromiter(both, np.int64).reshape(-1, 2)
    first, second = (scored.select(side) for side in pairs.T)
    question = VerdictPrompt(parameters.question.template, *parameters.question.verdicts)
    texts = first["prompt"], first["response"], second["response"]
    probabilities = verdict_probabilities(judge, *texts, question, parameters.batch_tokens, shards, arithmetic)
    probabilities = probabilities.mean(dim=1)
    shares = torch.logit(probabilities, eps=1e-6).numpy() / samples.repeat(samples)[pairs[:, 0]]
    rewards = np.zeros(len(scored))
    np.subtract.at(rewards, pairs[:, 1], shares)
    np.add.at(rewards, pairs[:, 0], shares)
    return torch.from_numpy(rewards)
