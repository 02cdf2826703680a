"""Nodes of the seeding pipeline."""

from itertools import groupby

import pandas as pd
from datasets import Dataset

from selfie.checkpoints import Checkpoint
from selfie.errors import DataError
from selfie.generation.engine import Sampling
from selfie.generation.sample import render, sample_responses
from selfie.judges.gold import gold_scorer
from selfie.judges.plain_language import whole_sentences
from selfie.parameters import GenerationParameters, JudgingParameters, SeedLabellingParameters
from selfie.scoring.sequence_log_probs import score


def sample_seeds(
    seed_prompts: Dataset, initial_model: Checkpoint, generation: GenerationParameters, max_length: int, seed: int
) -> Dataset:
    """Several responses of the initial model to each seed prompt."""
    rows = sample_responses(
        initial_model,
        seed_prompts,
        generation.samples_per_prompt,
        Sampling(generation.temperature, generation.top_p, generation.max_new_tokens),
        engine=generation.engine,
        batch_tokens=generation.batch_tokens,
        max_length=max_length,
        purpose="seed_labelling",
        seed=seed,
    )
    return Dataset.from_list(rows)


def label_responses(responses: Dataset, parameters: SeedLabellingParameters, gold: str) -> pd.DataFrame:
    """The annotator's best and worst response to each prompt, cut to whole sentences, where the choice is clear."""
    scorer = gold_scorer(gold)
    pairs = []
    for prompt, group in groupby(responses, key=lambda row: row["prompt"]):
        texts = [text for row in group if (text := whole_sentences(row["response"]))]
        ranked = sorted(((scorer(prompt, text), text) for text in texts), reverse=True)
        if len(ranked) > 1 and ranked[0][0] - ranked[-1][0] >= max(parameters.clear_gap, 1e-9):
            pairs.append({"prompt": prompt, "chosen": ranked[0][1], "rejected": ranked[-1][1]})
    return pd.DataFrame(pairs[: parameters.pairs])


def tokenize_pairs(
    seed_preferences: Dataset, initial_model: Checkpoint, max_length: int, parameters: JudgingParameters
) -> Dataset:
    """Renders prompts with the chat template, ends responses with EOS, and adds the initial model's log-probs."""
    tokenizer = initial_model.load_tokenizer()
    rows = []
    for number, pair in enumerate(seed_preferences):
        prompt_ids = render(tokenizer, pair["messages"])
        room = max_length - len(prompt_ids)
        if room <= 0:
            raise DataError(
                f"seed preferences, row {pair['row']}",
                f"the prompt alone has {len(prompt_ids)} tokens",
                f"shorten it, or raise the parameter max_length ({max_length})",
            )
        responses = {
            f"{side}_ids": [*tokenizer(pair[side], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id][
                :room
            ]
            for side in ("chosen", "rejected")
        }
        rows.append(
            {
                "pair": number,
                "iteration": 0,
                "prompt_id": pair["prompt_id"],
                "prompt": pair["messages"][-1]["content"],
                "prompt_ids": prompt_ids,
                "chosen": pair["chosen"],
                "rejected": pair["rejected"],
                **responses,
            }
        )
    pairs = Dataset.from_list(rows)
    for side in ("chosen", "rejected"):
        responses = pairs[f"{side}_ids"][:]
        log_probs = score(initial_model, pairs["prompt_ids"][:], responses, parameters.batch_tokens, side)
        pairs = pairs.add_column(f"reference_{side}_log_prob", log_probs)
    return pairs
