"""Pairs as the trainer takes them."""

from datasets import Dataset, concatenate_datasets

from selfie.checkpoints import Checkpoint
from selfie.scoring.sequence_log_probs import score

COLUMNS = (
    "pair",
    "prompt_ids",
    "chosen_ids",
    "rejected_ids",
    "reference_chosen_log_prob",
    "reference_rejected_log_prob",
)


def with_reference(pairs: Dataset, reference: Checkpoint, batch_tokens: int) -> Dataset:
    """Adds (or replaces) ``reference_chosen_log_prob`` and ``reference_rejected_log_prob``, summed, in nats."""
    for side in ("chosen", "rejected"):
        column = f"reference_{side}_log_prob"
        log_probs = score(reference, pairs["prompt_ids"][:], pairs[f"{side}_ids"][:], batch_tokens, side)
        pairs = pairs.remove_columns([column] if column in pairs.column_names else []).add_column(column, log_probs)
    return pairs


def add_human_pairs(pairs: Dataset, human: Dataset) -> Dataset:
    """One training set, in the columns that the trainer reads; ``human`` marks labels that are never questioned.

    The human's pairs are numbered after the others, so that the log tells them apart.
    """
    numbers = range(len(pairs), len(pairs) + len(human))
    human = human.remove_columns("pair").add_column("pair", list(numbers))
    parts = [
        part.select_columns(list(COLUMNS)).add_column("human", [mark] * len(part))
        for part, mark in ((pairs, False), (human, True))
    ]
    return concatenate_datasets(parts)
