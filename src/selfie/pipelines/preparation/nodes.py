"""Nodes of the preparation pipeline."""

from pathlib import Path

import numpy as np
from datasets import Dataset

from selfie.checkpoints import Checkpoint
from selfie.conversion import convert_gguf
from selfie.parameters import WorldParameters
from selfie.randomness import derive_seed
from selfie.world.language import all_prompts, gold_reward, write_response
from selfie.world.pretraining import pretrain


def convert_model(gguf_model: Path, workspace: Path) -> Checkpoint:
    """De-quantises a GGUF file into a checkpoint that can be trained."""
    return convert_gguf(gguf_model, workspace / "model")


def make_language(world: WorldParameters, seed: int) -> tuple[Dataset, Dataset, Dataset, Dataset]:
    """The world's corpus, gold-labelled seed pairs, prompts and evaluation prompts."""
    rng = np.random.default_rng(derive_seed(seed, "world"))
    prompts = list(rng.permutation(all_prompts()))
    pairs: list[dict] = []
    while len(pairs) < world.seed_pairs:
        prompt = prompts.pop()
        worse, better = sorted((write_response(prompt, rng) for _ in range(2)), key=lambda r: gold_reward(prompt, r))
        if gold_reward(prompt, worse) < gold_reward(prompt, better):
            row = {**_prompt_row(prompt, len(pairs)), "chosen": better, "rejected": worse}
            pairs.append({**row, "chosen_finish_reason": "stop", "rejected_finish_reason": "stop"})
    evaluation = [_prompt_row(prompts.pop(), number) for number in range(world.evaluation_prompts)]
    training = [_prompt_row(prompts.pop(), number) for number in range(world.prompts)]
    # The supervised model has seen every prompt of the language, with responses of its own.
    seen = rng.choice(all_prompts(), world.corpus)
    corpus = [{"prompt": str(prompt), "response": write_response(prompt, rng)} for prompt in seen]
    return tuple(map(Dataset.from_list, (corpus, pairs, training, evaluation)))


def pretrain_model(corpus: Dataset, workspace: Path, seed: int) -> Checkpoint:
    """The world's supervised model."""
    pairs = list(zip(corpus["prompt"], corpus["response"], strict=True))
    return pretrain(pairs, derive_seed(seed, "pretraining"), workspace / "model")


def _prompt_row(prompt: str, number: int) -> dict:
    return {"prompt_id": prompt, "messages": [{"role": "user", "content": str(prompt)}], "row": number}
