"""Nodes of the seeding pipeline."""

from datasets import Dataset

from selfie.checkpoints import Checkpoint
from selfie.errors import DataError
from selfie.generation.sample import render
from selfie.parameters import JudgingParameters
from selfie.scoring.sequence_log_probs import score


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
