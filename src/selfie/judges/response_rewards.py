"""A judge turns scored responses into rewards; the higher one is preferred."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, combinations, groupby
from typing import Protocol

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from selfie.config.gold import GoldParameters
from selfie.config.parameters import JudgingParameters
from selfie.config.plug_ins import resolve
from selfie.errors import ConfigurationError
from selfie.judges.gold import gold_scorer
from selfie.judges.prompted_policy import VerdictPrompt, verdict_probabilities
from selfie.judges.reward_model import reward_model_scores
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import scoring_arithmetic
from selfie.preference.implicit_reward import implicit_reward, length_neutral, per_token
from selfie.storage.shards import Shards


@dataclass(frozen=True)
class JudgeContext:
    """What a judge is given besides the responses.

    Args:
        parameters: of judging.
        beta: β of the implicit reward.
        gold: the gold annotator, which only the judge of that name looks at.
        model: of ``prompted_policy`` and ``reward_model``; None for a judge from outside the package.
        shards: where finished shards are kept until all are there.
        precision: the judge model's, as ``precision.scoring``.
    """

    parameters: JudgingParameters
    beta: float
    gold: GoldParameters | None = None
    model: Checkpoint | None = None
    shards: Shards | None = None
    precision: str = "auto"


class ResponseJudge(Protocol):
    """Rewards responses, called without names of arguments."""

    def __call__(self, scored: Dataset, context: JudgeContext, /) -> Tensor:
        """One reward a response, shape [rows].

        Args:
            scored: rows of responses, a prompt's rows together: ``prompt_id``, ``messages``, ``prompt`` (their text),
                ``prompt_ids``, ``response``, ``response_ids``, ``policy_log_prob``, ``initial_log_prob``.
            context: what else there is.
        """
        ...


def response_rewards(
    scored: Dataset,
    parameters: JudgingParameters,
    beta: float,
    gold: GoldParameters | None,
    judge_model: Checkpoint | None = None,
    shards: Shards | None = None,
    precision: str = "auto",
) -> Tensor:
    """The rewards of the judge that the parameters name, in float64, shape [rows].

    Its arguments are those of :class:`ResponseJudge` and :class:`JudgeContext`.

    Raises:
        ConfigurationError: the judge ``gold`` without a gold annotator, or not one number a response.
    """
    judge = resolve(parameters.judge, JUDGES)
    context = JudgeContext(parameters, beta, gold, judge_model, shards, precision)
    rewards = torch.as_tensor(judge(scored, context), dtype=torch.float64)
    if rewards.shape != (len(scored),) or rewards.isnan().any():
        found = "NaN" if rewards.shape == (len(scored),) else f"a tensor of shape {list(rewards.shape)}"
        problem = f"{parameters.judge} gives {found} for {len(scored)} responses"
        raise ConfigurationError("judging.judge", problem, "a judge gives one number a response, shape [rows]")
    return rewards


def _implicit_reward(scored: Dataset, context: JudgeContext) -> Tensor:
    """SPA's direct preference judgment."""
    log_probs = scored.with_format("torch", dtype=torch.float64)
    rewards = implicit_reward(log_probs["policy_log_prob"][:], log_probs["initial_log_prob"][:], context.beta)
    if context.parameters.length == "summed":
        return rewards
    lengths = np.fromiter(map(len, scored["response_ids"]), np.int64)
    if context.parameters.length == "per_token":
        return per_token(rewards, torch.from_numpy(lengths))
    samples = _samples(scored["prompt_id"])
    prompt = np.arange(len(samples)).repeat(samples)
    return length_neutral(rewards, torch.from_numpy(lengths), torch.from_numpy(prompt))


def _gold(scored: Dataset, context: JudgeContext) -> Tensor:
    """The upper bound: the gold annotator, which the loop otherwise never sees."""
    if context.gold is None:
        raise ConfigurationError("judging.judge", "the gold judge needs a gold annotator", "set the parameter gold")
    scorer = gold_scorer(context.gold)
    return torch.tensor(list(map(scorer, scored["prompt"], scored["response"])), dtype=torch.float64)


def _reward_model(scored: Dataset, context: JudgeContext) -> Tensor:
    model, batch_tokens = context.model, context.parameters.batch_tokens
    assert model is not None
    arithmetic = scoring_arithmetic(context.precision, model)
    return reward_model_scores(model, scored["messages"], scored["response"], batch_tokens, context.shards, arithmetic)


def _samples(prompt_ids: Iterable[str]) -> np.ndarray:
    """How many responses each prompt has, shape [prompts]."""
    return np.fromiter((sum(1 for _ in group) for _, group in groupby(prompt_ids)), np.int64)


def _prompted_policy(scored: Dataset, context: JudgeContext) -> Tensor:
    """Every two responses of a prompt are compared; a response's reward is its mean log-odds against all of them.

    With two responses the difference of their rewards is the log-odds of the verdict, so that the Bradley–Terry
    probability of the pair is the judge's own.
    """
    judge, parameters = context.model, context.parameters
    assert judge is not None and parameters.question is not None
    samples = _samples(scored["prompt_id"])
    groups = (range(end - n, end) for end, n in zip(samples.cumsum(), samples, strict=True))
    both = chain.from_iterable(pair for group in groups for pair in combinations(group, 2))
    pairs = np.fromiter(both, np.int64).reshape(-1, 2)
    first, second = (scored.select(side) for side in pairs.T)
    question = VerdictPrompt(parameters.question.template, *parameters.question.verdicts)
    texts = first["prompt"], first["response"], second["response"]
    arithmetic = scoring_arithmetic(context.precision, judge)
    both_orders = verdict_probabilities(judge, *texts, question, parameters.batch_tokens, context.shards, arithmetic)
    probabilities = both_orders.mean(dim=1)
    shares = torch.logit(probabilities, eps=1e-6).numpy() / samples.repeat(samples)[pairs[:, 0]]
    rewards = np.zeros(len(scored))
    np.subtract.at(rewards, pairs[:, 1], shares)
    np.add.at(rewards, pairs[:, 0], shares)
    return torch.from_numpy(rewards)


JUDGES: dict[str, ResponseJudge] = {
    "implicit_reward": _implicit_reward,
    "prompted_policy": _prompted_policy,
    "reward_model": _reward_model,
    "gold": _gold,
}
