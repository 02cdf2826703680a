"""Pairs as the trainer takes them."""

from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets
from transformers import PreTrainedTokenizerBase

from selfie.errors import DataError
from selfie.models.chat_template import as_text, render, render_response, turn_end
from selfie.storage.shards import Shards, in_shards

COLUMNS = ("pair", "prompt_ids", "chosen_ids", "rejected_ids")


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


def add_human_pairs(pairs: Dataset, human: Dataset, times: int) -> Dataset:
    """One training set, in the columns that the trainer reads: the iteration's pairs, and the human's ``times`` over.

    ``human`` marks labels that the noise detector never flags. The human's pairs are numbered after the others, so that
    the log tells them apart.
    """
    human = concatenate_datasets([human] * times)
    numbers = np.arange(len(pairs), len(pairs) + len(human))
    human = human.remove_columns("pair").add_column("pair", numbers).add_column("weight", np.ones(len(human)))
    parts = [
        part.select_columns([*COLUMNS, "weight"]).add_column("human", np.full(len(part), mark))
        for part, mark in ((pairs, False), (human, True))
    ]
    return concatenate_datasets(parts)
