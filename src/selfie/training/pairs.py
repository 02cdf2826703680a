"""Pairs as the trainer takes them."""

from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets, interleave_datasets
from transformers import PreTrainedTokenizerBase

from selfie.chat import as_text, render, render_response, turn_end
from selfie.checkpoints import Checkpoint
from selfie.datasets.shards import Shards, in_shards
from selfie.errors import DataError
from selfie.scoring.sequence_log_probs import score

COLUMNS = (
    "pair",
    "prompt_ids",
    "chosen_ids",
    "rejected_ids",
    "reference_chosen_log_prob",
    "reference_rejected_log_prob",
)


def tokenize(
    preferences: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    source: str,
    shards: Shards | None = None,
) -> Dataset:
    """A human's pairs as token ids, rendered with the chat template; whole responses end as it ends a turn.

    Args:
        preferences: rows as :class:`selfie.datasets.PreferenceDataset` loads them.
        tokenizer: of the model that is trained.
        max_length: tokens of prompt and response together; longer responses are cut.
        source: what an error calls the data.
        shards: where the pairs are kept until all are there; without, they are made in memory.

    Raises:
        DataError: a prompt leaves no room for a response, or a response can't be told from control tokens or prompt.
    """

    def encode(number: int) -> dict[str, Any]:
        pair = preferences[number]
        prompt_ids = render(tokenizer, pair["messages"])
        room = max_length - len(prompt_ids)
        if room <= 0:
            raise DataError(
                f"{source}, row {pair['row']}",
                f"the prompt alone has {len(prompt_ids)} tokens",
                f"shorten it, or raise the parameter max_length ({max_length})",
            )
        row = {"pair": number, "iteration": 0, "prompt_id": pair["prompt_id"], "prompt_ids": prompt_ids}
        row |= {"prompt": as_text(pair["messages"]), "chosen": pair["chosen"], "rejected": pair["rejected"]}
        for side in ("chosen", "rejected"):
            ids = render_response(tokenizer, pair["messages"], prompt_ids, pair[side])
            end = [turn_end(tokenizer)] if pair[f"{side}_finish_reason"] == "stop" else []
            row[f"{side}_ids"] = [*ids, *end][:room]
        return row

    return in_shards(shards, lambda part: Dataset.from_list(list(map(encode, part))), len(preferences))


def with_reference(pairs: Dataset, reference: Checkpoint, batch_tokens: int, shards: Shards | None = None) -> Dataset:
    """Adds (or replaces) ``reference_chosen_log_prob`` and ``reference_rejected_log_prob``, summed, in nats."""
    sides = ("chosen", "rejected")
    # The two responses of a pair next to each other: they share their prompt's computation.
    both = interleave_datasets(
        [pairs.select_columns(["prompt_ids", f"{side}_ids"]).rename_column(f"{side}_ids", "ids") for side in sides]
    )
    log_probs = score(reference, both["prompt_ids"], both["ids"], batch_tokens, "reference", shards)
    for number, side in enumerate(sides):
        column = f"reference_{side}_log_prob"
        values = log_probs[number :: len(sides)]
        pairs = pairs.remove_columns([column] if column in pairs.column_names else []).add_column(column, values)
    return pairs


def add_human_pairs(pairs: Dataset, human: Dataset) -> Dataset:
    """One training set, in the columns that the trainer reads; ``human`` marks labels that are never questioned.

    The human's pairs are numbered after the others, so that the log tells them apart.
    """
    numbers = np.arange(len(pairs), len(pairs) + len(human))
    human = human.remove_columns("pair").add_column("pair", numbers).add_column("weight", np.ones(len(human)))
    parts = [
        part.select_columns([*COLUMNS, "weight"]).add_column("human", np.full(len(part), mark))
        for part, mark in ((pairs, False), (human, True))
    ]
    return concatenate_datasets(parts)
