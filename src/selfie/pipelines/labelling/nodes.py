"""Nodes of the labelling pipeline."""

import logging
from collections.abc import Iterator
from itertools import groupby
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset, concatenate_datasets

from selfie.config.execution import DEFAULT_EXECUTION, ExecutionParameters
from selfie.config.labelling import BY_POLICY, LabellingParameters
from selfie.config.parameters import GenerationParameters, JudgingParameters
from selfie.datasets.records import check_text
from selfie.errors import DataError
from selfie.generation.engine import Sampling
from selfie.generation.sampling import beside_one_another, fitting_prompts, sample_responses
from selfie.judges.response_rewards import response_rewards
from selfie.labelling.label_file import label_files, read_labels, standing
from selfie.labelling.selection import (
    disagreement,
    diverse_prompts,
    largest_of_each,
    random_prompts,
    smallest_margins,
    worth_a_label,
)
from selfie.models.chat_template import as_text
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import sampling_arithmetic
from selfie.runtime.random_seeds import derive_seed
from selfie.storage.shards import Shards

logger = logging.getLogger(__name__)
STEP_VERSIONS = {
    "choose_prompts": 2,
    "sample_candidates": 3,
    "propose_pairs": 3,
    "propose_uncertain_pairs": 3,
    "propose_disputed_pairs": 2,
}
SPARE = 3  # times the budget: prompts that stand by for those whose responses make no pair
MORE_PAIRS = "labelling.samples_per_prompt or generation.max_new_tokens, or bring more prompts"
Row = dict[str, Any]
Pair = tuple[Row, Row]


def choose_prompts(seed_prompts: Dataset, labels: Path, parameters: LabellingParameters, seed: int) -> Dataset:
    """All prompts, where what a policy says of the responses is to decide; else the chosen ones, then spare ones.

    As many are chosen as the budget has pairs; the spare ones are drawn. Prompts that an annotator was asked about
    already are left out.

    Raises:
        DataError: no prompt is left.
    """
    known = {as_text(label.messages) for file in label_files(labels) for label in standing(read_labels(file))}
    texts = list(map(as_text, seed_prompts["messages"]))
    numbers = [number for number, text in enumerate(texts) if text not in known]
    if not numbers:
        raise DataError("seed_prompts", f"all {len(seed_prompts)} prompts are labelled", "bring more prompts")
    if len(numbers) < len(seed_prompts):
        logger.info("%d of %d prompts are labelled already", len(seed_prompts) - len(numbers), len(seed_prompts))
    fresh = seed_prompts.select(numbers, keep_in_memory=True)
    if parameters.selection in BY_POLICY:
        return fresh
    seed = derive_seed(seed, "labelling")
    chosen = drawn = random_prompts(len(fresh), len(fresh), seed)
    if parameters.selection == "diverse":
        chosen = diverse_prompts([texts[number] for number in numbers], parameters.budget, seed)
    first = chosen[: parameters.budget]
    spare = [number for number in drawn if number not in set(first)]
    return fresh.select([*first, *spare[: SPARE * parameters.budget]])


def sample_candidates(
    prompts: Dataset,
    policy: Checkpoint,
    workspace: Path,
    parameters: GenerationParameters,
    labelling: LabellingParameters,
    choose_truncated: bool,
    precision: str,
    max_length: int,
    seed: int,
    execution: ExecutionParameters = DEFAULT_EXECUTION,
) -> Dataset:
    """Several responses to each prompt, from the initial model or the policy that ``labelling.policy`` names.

    Of the spare prompts only as many are sampled as the budget still lacks pairs that are worth a label, at the rate at
    which the prompts before them gave some; again, until it lacks none or no prompt is left.
    """
    sampling = Sampling(parameters.temperature, parameters.top_p, parameters.max_new_tokens)
    prompts = prompts.select(fitting_prompts(policy.load_tokenizer(), prompts, max_length - sampling.max_new_tokens))
    rounds: list[Dataset] = []
    asked, found = 0, 0
    wanted = len(prompts) if labelling.selection in BY_POLICY else labelling.budget
    while asked < len(prompts) and found < labelling.budget:
        part = prompts.select(range(asked, min(asked + wanted, len(prompts))))
        responses = sample_responses(
            policy,
            part,
            labelling.samples_per_prompt,
            sampling,
            engine=parameters.engine,
            batch_tokens=parameters.batch_tokens,
            max_length=max_length,
            purpose="labelling",
            seed=seed,
            shards=Shards(workspace / f"round_{len(rounds)}", parameters.shard_rows, execution),
            arithmetic=sampling_arithmetic(precision, policy),
        )
        rounds.append(responses)
        asked += len(part)
        found += sum(any(_worth_a_label(group, choose_truncated)) for group in _by_prompt(responses))
        wanted = ceil((labelling.budget - found) * asked / max(found, 1))
    return beside_one_another({"policy": concatenate_datasets(rounds)})


def propose_pairs(responses: Dataset, budget: int, choose_truncated: bool) -> pd.DataFrame:
    """The first two responses to each prompt that are worth a label.

    Raises:
        DataError: no prompt has two.
    """
    firsts = (next(_worth_a_label(group, choose_truncated), None) for group in _by_prompt(responses))
    return _table([pair for pair in firsts if pair is not None][:budget], budget)


def propose_uncertain_pairs(scored: Dataset, budget: int, judging: JudgingParameters, beta: float) -> pd.DataFrame:
    """The best and the worst response of those prompts where the policy's implicit reward tells them apart least.

    Raises:
        DataError: no prompt has two different responses.
    """
    prompts, pairs = _all_pairs(scored, judging.choose_truncated)
    margins = _margins(scored, pairs, judging, beta)
    widest = largest_of_each(prompts, np.abs(margins))
    chosen = widest[smallest_margins(margins[widest], budget)]
    return _table([pairs[number] for number in chosen], budget)


def propose_disputed_pairs(scored: Dataset, budget: int, judging: JudgingParameters, beta: float) -> pd.DataFrame:
    """The two responses to each prompt about which two judges contradict each other most; the clearest cases first.

    The judges are the policy's implicit reward summed and per token: whether a preference of the policy is one for
    more words. Both follow from the log-probs that ``uncertain`` takes, too. Policies k and k − 1 as judges would need
    a third model's log-probs and a second trained policy, so that no one could use them for the second round of
    labels. Where the judges contradict each other about fewer prompts than the budget has pairs, those follow about
    which they are least sure.

    Raises:
        DataError: no prompt has two different responses.
    """
    prompts, pairs = _all_pairs(scored, judging.choose_truncated)
    judges = (judging.model_copy(update={"length": length}) for length in ("summed", "per_token"))
    contradiction = disagreement(*(_margins(scored, pairs, judge, beta) for judge in judges))
    most = largest_of_each(prompts, contradiction)
    chosen = most[np.argsort(-contradiction[most], kind="stable")[:budget]]
    return _table([pairs[number] for number in chosen], budget)


def _all_pairs(scored: Dataset, choose_truncated: bool) -> tuple[list[int], list[Pair]]:
    """Every two responses to a prompt that are worth a label: the prompts' numbers, and the rows with their places."""
    groups = _by_prompt(scored.add_column("place", np.arange(len(scored))))
    found = [(number, pair) for number, group in enumerate(groups) for pair in _worth_a_label(group, choose_truncated)]
    return [number for number, _ in found], [pair for _, pair in found]


def _margins(scored: Dataset, pairs: list[Pair], judging: JudgingParameters, beta: float) -> np.ndarray:
    """The policy's implicit reward of each pair's first response less that of its second, shape [pairs]."""
    own = judging.model_copy(update={"judge": "implicit_reward"})
    rewards = response_rewards(scored, own, beta, gold=None).numpy()
    places = np.array([[row["place"] for row in pair] for pair in pairs], dtype=np.int64).reshape(-1, 2)
    return rewards[places[:, 0]] - rewards[places[:, 1]]


def _worth_a_label(group: list[Row], choose_truncated: bool) -> Iterator[Pair]:
    """Every two of a prompt's responses that are."""
    eligible = [choose_truncated or row["finish_reason"] == "stop" for row in group]
    for one, two in worth_a_label([row["response"] for row in group], eligible):
        yield group[one], group[two]


def _by_prompt(responses: Dataset) -> Iterator[list[Row]]:
    """Each prompt's responses, without those that no label can be given: empty ones, control characters."""
    for _, group in groupby((row for row in responses), key=lambda row: row["prompt_id"]):
        yield [row for row in group if _is_text(row["response"])]


def _is_text(response: str) -> bool:
    try:
        check_text(response, "response")
    except ValueError:
        return False
    return True


def _table(pairs: list[Pair], budget: int) -> pd.DataFrame:
    if not pairs:
        problem = "no prompt has two different responses that may be chosen"
        raise DataError("responses", problem, f"raise generation.temperature, {MORE_PAIRS}")
    if len(pairs) < budget:
        logger.warning("only %d prompts gave a pair that is worth a label: for more, raise %s", len(pairs), MORE_PAIRS)
    logger.info("%d pairs are proposed, for a budget of %d: label them with `selfie label`", len(pairs), budget)
    return pd.DataFrame([_proposal(*pair) for pair in pairs])


def _proposal(first: Row, second: Row) -> Row:
    messages = first["messages"]
    return {
        "prompt": messages if len(messages) > 1 else messages[0]["content"],
        "response_1": first["response"],
        "response_2": second["response"],
        "response_1_finish_reason": first["finish_reason"],
        "response_2_finish_reason": second["finish_reason"],
    }
