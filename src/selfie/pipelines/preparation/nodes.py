"""Nodes of the preparation pipeline."""

from pathlib import Path

import numpy as np
from datasets import Dataset

from selfie.config.parameters import SyntheticParameters
from selfie.errors import ConfigurationError
from selfie.judges.prompted_policy import VerdictPrompt
from selfie.models.checkpoint import Checkpoint
from selfie.models.gguf import convert_gguf
from selfie.runtime.random_seeds import derive_seed
from selfie.synthetic.language import QUESTION, VERDICTS, all_prompts, gold_reward, write_response
from selfie.synthetic.pretraining import pretrain

STEP_VERSIONS = {
    "convert_model": 1,
    "make_language": 1,
    "pretrain_model": 1,
}


def convert_model(gguf_model: Path, workspace: Path) -> Checkpoint:
    """De-quantises a GGUF file into a checkpoint that can be trained."""
    return convert_gguf(gguf_model, workspace / "model")


def make_language(amounts: SyntheticParameters, seed: int) -> tuple[Dataset, Dataset, Dataset, Dataset]:
    """The language's corpus, gold-labelled seed pairs, prompts and evaluation prompts."""
    rng = np.random.default_rng(derive_seed(seed, "world"))  # another word here is another language for every seed
    every = list(map(str, rng.permutation(all_prompts())))
    needed = max(amounts.labelled_pairs, amounts.prompts) + amounts.evaluation_prompts
    if needed > len(every):
        raise ConfigurationError(
            "parameter synthetic",
            f"it asks for {needed} prompts, the language has {len(every)}: some would be used twice",
            "lower labelled_pairs, prompts or evaluation_prompts",
        )
    # The last prompts are for evaluation, those before them for the iterations. Labelled pairs begin at the front:
    # where all prompts are labelled, the first pairs are the seeds and the rest shares its prompts with the iterations.
    evaluation = every[-amounts.evaluation_prompts :]
    training = every[-amounts.evaluation_prompts - amounts.prompts : -amounts.evaluation_prompts]
    pairs = [_labelled_pair(prompt, number, rng) for number, prompt in enumerate(every[: amounts.labelled_pairs])]
    rows = ([_prompt_row(prompt, number) for number, prompt in enumerate(part)] for part in (training, evaluation))
    return tuple(map(Dataset.from_list, (_corpus(amounts, seed), pairs, *rows)))


def pretrain_model(corpus: Dataset, workspace: Path, seed: int) -> Checkpoint:
    """The language's supervised model."""
    pairs = list(zip(corpus["prompt"], corpus["response"], strict=True))
    return pretrain(pairs, derive_seed(seed, "pretraining"), workspace / "model")


def _corpus(amounts: SyntheticParameters, seed: int) -> list[dict]:
    """What the supervised model learns from: responses to every prompt of the language, and verdicts on some."""
    rng = np.random.default_rng(derive_seed(seed, "corpus"))
    seen = list(map(str, rng.choice(all_prompts(), amounts.corpus)))
    spoken = [{"prompt": prompt, "response": write_response(prompt, rng)} for prompt in seen]
    judged = []
    for prompt in seen[: amounts.verdicts]:
        question, verdict = write_verdict(prompt, write_response(prompt, rng), write_response(prompt, rng))
        judged.append({"prompt": question, "response": verdict})
    return [(spoken + judged)[i] for i in rng.permutation(len(spoken) + len(judged))]


def _labelled_pair(prompt: str, number: int, rng: np.random.Generator) -> dict:
    by_reward: dict[float, str] = {}
    while len(by_reward) < 2:  # not the same twice  # noqa: PLR2004
        response = write_response(prompt, rng)
        by_reward[gold_reward(prompt, response)] = response
    worse, better = (by_reward[reward] for reward in sorted(by_reward))
    row = {**_prompt_row(prompt, number), "chosen": better, "rejected": worse}
    return {**row, "chosen_finish_reason": "stop", "rejected_finish_reason": "stop"}


def _prompt_row(prompt: str, number: int) -> dict:
    return {"prompt_id": prompt, "messages": [{"role": "user", "content": prompt}], "row": number}


def write_verdict(prompt: str, response_1: str, response_2: str) -> tuple[str, str]:
    """The question which response is better, and the true answer."""
    question = VerdictPrompt(QUESTION, *VERDICTS).fill(prompt, response_1, response_2)
    return question, VERDICTS[gold_reward(prompt, response_1) < gold_reward(prompt, response_2)]
