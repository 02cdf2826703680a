"""The human's pairs among an iteration's own: their numbers, and that they are never flagged."""

from pathlib import Path

import pytest
import torch
from datasets import Dataset
from test_trainer import config, make_pairs, other_model, run
from transformers import LlamaForCausalLM

from selfie.scoring.log_probs import response_log_probs
from selfie.scoring.packed_rows import lay_out, stack
from selfie.training.pairs import COLUMNS, add_human_pairs


@pytest.fixture
def own() -> Dataset:
    """40 pairs of an iteration, with columns that seed pairs don't have."""
    return make_pairs(40).add_column("margin", [0.5] * 40).add_column("weight", [0.5, 1.5] * 20)


@pytest.fixture
def human() -> Dataset:
    """12 seed pairs, with other columns than an iteration's."""
    return make_pairs(12, seed=1).add_column("chosen", ["text"] * 12)


def test_numbers_and_columns(own: Dataset, human: Dataset):
    """The iteration's pairs keep theirs, the human's go on from there."""
    together = add_human_pairs(own, human, times=1)
    assert together["pair"][:] == list(range(52))
    assert together["human"][:] == [False] * 40 + [True] * 12
    assert set(together.column_names) == {*COLUMNS, "human", "weight"}
    assert together["weight"][:] == [0.5, 1.5] * 20 + [1.0] * 12
    for column in set(COLUMNS) - {"pair"}:
        assert together[column][:] == own[column][:] + human[column][:]
    assert human["pair"][:] == list(range(12))  # the caller's are as they were


def test_replay_repeats_the_pairs(own: Dataset, human: Dataset):
    """``replay`` 2: twice over, each time with numbers of their own."""
    together = add_human_pairs(own, human, times=2)
    assert together["chosen_ids"][40:] == human["chosen_ids"][:] * 2
    assert together["pair"][:] == list(range(64))


def turned(pairs: Dataset, model: LlamaForCausalLM, reference: LlamaForCausalLM, sign: int) -> Dataset:
    """The pairs with chosen and rejected exchanged where the margin has another sign."""
    ratios = []
    for side in ("chosen", "rejected"):
        rows = stack(lay_out(pairs["prompt_ids"][:], pairs[f"{side}_ids"][:], False), False, torch.device("cpu"))
        with torch.no_grad():
            ratios.append(response_log_probs(model, rows)[0] - response_log_probs(reference, rows)[0])
    right = ((ratios[0] - ratios[1]) * sign > 0).tolist()
    sides = [pairs["chosen_ids"][:], pairs["rejected_ids"][:]]
    for number, column in enumerate(("chosen_ids", "rejected_ids")):
        ids = [sides[number if kept else 1 - number][row] for row, kept in enumerate(right)]
        pairs = pairs.remove_columns(column).add_column(column, ids)
    return pairs


def test_human_labels_are_never_flagged(tiny_model: LlamaForCausalLM, tokenizer, tmp_path: Path, own, human):
    """With K = 50% and the human's margins the lowest of all, only the iteration's own are flagged.

    The human's margins count in the window none the less, and their loss is plain DPO's.
    """
    reference = other_model(tiny_model)
    own, human = turned(own, tiny_model, reference, 1), turned(human, tiny_model, reference, -1)
    args = config(tmp_path, learning_rate=1e-6, num_train_epochs=2)
    changes = {"label_smoothing": 0.1, "noise_percentile": 50.0, "detector_window": 24, "detector_warmup": 0.1}
    log = run(tiny_model, reference, add_human_pairs(own, human, times=1), args, tokenizer, **changes).pair_log
    entries = [entry for entry in log if entry["pair"] >= 40]
    assert sorted(entry["pair"] for entry in entries) == sorted([*range(40, 52)] * 2)
    assert not any(entry["flagged"] for entry in entries)
    checked_pairs = [entry for entry in entries if not entry["trusted"]]
    others = [entry for entry in log if entry["pair"] < 40 and not entry["trusted"]]
    assert max(e["detector_margin"] for e in checked_pairs) < min(e["detector_margin"] for e in others)
    assert sum(entry["flagged"] for entry in others) > 10
    for entry in entries:
        assert entry["loss"] == pytest.approx(float(torch.nn.functional.softplus(torch.tensor(-entry["margin"]))), 1e-4)
