"""Nodes of the labelling pipeline."""

import logging
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset

from selfie.config.labelling import LabellingParameters
from selfie.config.parameters import GenerationParameters, JudgingParameters
from selfie.datasets.records import check_text
from selfie.errors import DataError
from selfie.generation.engine import Sampling
from selfie.generation.sampling import beside_one_another, sample_responses
from selfie.judges.response_rewards import response_rewards
from selfie.labelling.label_file import label_files, read_labels, standing
from selfie.labelling.selection import diverse_prompts, first_two, random_prompts, smallest_margins
from selfie.models.chat_template import as_text
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import sampling_arithmetic
from selfie.preference.implicit_reward import best_and_worst
from selfie.runtime.random_seeds import derive_seed
from selfie.storage.shards import Shards

logger = logging.getLogger(__name__)
STEP_VERSIONS = {
    "choose_prompts": 1,
    "sample_candidates": 1,
    "propose_pairs": 1,
    "propose_uncertain_pairs": 1,
}
Row = dict[str, Any]


def choose_prompts(seed_prompts: Dataset, labels: Path, parameters: LabellingParameters, seed: int) -> Dataset:
    """The prompts to sample: as many as the budget has pairs, or all of them where margins are to decide.

    Prompts that an annotator was asked about already are left out.

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
    seed = derive_seed(seed, "labelling")
    if parameters.selection == "random":
        return fresh.select(random_prompts(len(fresh), parameters.budget, seed))
    if parameters.selection == "diverse":
        return fresh.select(diverse_prompts([texts[number] for number in numbers], parameters.budget, seed))
    return fresh


def sample_candidates(
    prompts: Dataset,
    policy: Checkpoint,
    workspace: Path,
    parameters: GenerationParameters,
    samples_per_prompt: int,
    precision: str,
    max_length: int,
    seed: int,
) -> Dataset:
    """Several responses to each prompt, from the initial model or the policy that ``labelling.policy`` names."""
    responses = sample_responses(
        policy,
        prompts,
        samples_per_prompt,
        Sampling(parameters.temperature, parameters.top_p, parameters.max_new_tokens),
        engine=parameters.engine,
        batch_tokens=parameters.batch_tokens,
        max_length=max_length,
        purpose="labelling",
        seed=seed,
        shards=Shards(workspace, parameters.shard_rows),
        arithmetic=sampling_arithmetic(precision, policy),
    )
    return beside_one_another({"policy": responses})


def propose_pairs(responses: Dataset, budget: int) -> pd.DataFrame:
    """The first two responses to each prompt that can be told apart.

    Raises:
        DataError: no prompt has two.
    """
    pairs = []
    for group in _by_prompt(responses):
        chosen = first_two([row["response"] for row in group])
        if chosen is not None:
            pairs.append(_pair(*(group[number] for number in chosen)))
    return _table(pairs[:budget], budget)


def propose_uncertain_pairs(scored: Dataset, budget: int, judging: JudgingParameters, beta: float) -> pd.DataFrame:
    """The best and the worst response of those prompts where the policy's implicit reward tells them apart least.

    Raises:
        DataError: no prompt has two different responses.
    """
    own = judging.model_copy(update={"judge": "implicit_reward"})
    rewards = response_rewards(scored, own, beta, gold=None)
    pairs, margins = [], []
    for group in _by_prompt(scored.add_column("place", np.arange(len(scored)))):
        values = rewards[[row["place"] for row in group]]
        best, worst = best_and_worst(values) if len(group) > 1 else (0, 0)
        if group[best]["response"].strip() != group[worst]["response"].strip():
            pairs.append(_pair(group[best], group[worst]))
            margins.append(float(values[best] - values[worst]))
    return _table([pairs[number] for number in smallest_margins(margins, budget)], budget)


def _by_prompt(responses: Dataset) -> list[list[Row]]:
    """Each prompt's responses, without those that no label can be given: empty ones, control characters."""
    groups = groupby((row for row in responses), key=lambda row: row["prompt_id"])
    usable = ([row for row in group if _is_text(row["response"])] for _, group in groups)
    return [group for group in usable if group]


def _is_text(response: str) -> bool:
    try:
        check_text(response, "response")
    except ValueError:
        return False
    return True


def _pair(first: Row, second: Row) -> Row:
    messages = first["messages"]
    return {
        "prompt": messages if len(messages) > 1 else messages[0]["content"],
        "response_1": first["response"],
        "response_2": second["response"],
        "response_1_finish_reason": first["finish_reason"],
        "response_2_finish_reason": second["finish_reason"],
    }


def _table(pairs: list[Row], budget: int) -> pd.DataFrame:
    if not pairs:
        problem = "no prompt has two different responses"
        raise DataError("responses", problem, "raise generation.temperature or labelling.samples_per_prompt")
    logger.info("%d pairs are proposed, for a budget of %d: label them with `selfie label`", len(pairs), budget)
    return pd.DataFrame(pairs)
