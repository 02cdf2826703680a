"""The human's pairs among an iteration's own: their numbers, their reference, and that nobody questions them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from test_trainer import config, disturb, make_pairs, run
from transformers import LlamaForCausalLM

from selfie.checkpoints import Checkpoint
from selfie.parameters import JudgingParameters
from selfie.pipelines.training.nodes import score_replayed
from selfie.scoring.sequence_log_probs import score
from selfie.training.pairs import COLUMNS, add_human_pairs, with_reference


@pytest.fixture
def own(tiny_model: LlamaForCausalLM) -> Dataset:
    """40 pairs of an iteration, with columns that seed pairs don't have."""
    return disturb(make_pairs(tiny_model, 40)).add_column("margin", [0.5] * 40).add_column("weight", [0.5, 1.5] * 20)


@pytest.fixture
def human(tiny_model: LlamaForCausalLM) -> Dataset:
    """12 seed pairs, with other columns than an iteration's."""
    return disturb(make_pairs(tiny_model, 12, seed=1)).add_column("chosen", ["text"] * 12)


def test_numbers_and_columns(own: Dataset, human: Dataset):
    """The iteration's pairs keep theirs, the human's go on from there."""
    together = add_human_pairs(own, human)
    assert together["pair"][:] == list(range(52))
    assert together["human"][:] == [False] * 40 + [True] * 12
    assert set(together.column_names) == {*COLUMNS, "human", "weight"}
    assert together["weight"][:] == [0.5, 1.5] * 20 + [1.0] * 12
    for column in set(COLUMNS) - {"pair"}:
        assert together[column][:] == own[column][:] + human[column][:]
    assert human["pair"][:] == list(range(12))  # the caller's are as they were


def test_reference_is_replaced(fp32_checkpoint: Checkpoint, own: Dataset):
    """Log-probs of an earlier reference give way to this one's; a dataset without them gets them."""
    bare = own.remove_columns([f"reference_{side}_log_prob" for side in ("chosen", "rejected")])
    for pairs in (own, bare):
        scored = with_reference(pairs, fp32_checkpoint, 512)
        for side in ("chosen", "rejected"):
            expected = score(fp32_checkpoint, own["prompt_ids"][:], own[f"{side}_ids"][:], 512, side)
            assert scored[f"reference_{side}_log_prob"][:] == pytest.approx(expected, abs=1e-4)
    assert scored["reference_chosen_log_prob"][:] != pytest.approx(own["reference_chosen_log_prob"][:], abs=1.0)


def test_replay_repeats_the_pairs(fp32_checkpoint: Checkpoint, human: Dataset, tmp_path: Path):
    """``replay`` 2: twice over, with the log-probs of the policy that is trained."""
    from test_trainer import PLAIN

    training = PLAIN.model_copy(update={"replay": 2})
    judging = JudgingParameters(judge="logit", batch_tokens=512, shard_rows=3)
    replayed = score_replayed(human, fp32_checkpoint, tmp_path, training, judging)
    assert replayed["chosen_ids"][:] == human["chosen_ids"][:] * 2
    expected = score(fp32_checkpoint, human["prompt_ids"][:], human["chosen_ids"][:], 512, "policy")
    assert replayed["reference_chosen_log_prob"][:] == pytest.approx([*expected, *expected], abs=1e-4)


def test_human_labels_are_never_flagged(tiny_model: LlamaForCausalLM, tokenizer, tmp_path: Path, own, human):
    """With K = 50% and references that put the human's margins lowest of all, only the iteration's own are flagged.

    The human's margins count in the window none the less, and their loss is plain DPO's.
    """
    low = (np.array(human["reference_chosen_log_prob"]) + 100).tolist()
    human = human.remove_columns("reference_chosen_log_prob").add_column("reference_chosen_log_prob", low)
    args = config(tmp_path, learning_rate=1e-6, num_train_epochs=2)
    changes = {"alpha": 0.1, "noise_percentile": 50.0, "detector_window": 24, "trust_warmup": 0.1}
    log = run(tiny_model, None, add_human_pairs(own, human), args, tokenizer, **changes).pair_log
    entries = [entry for entry in log if entry["pair"] >= 40]
    assert sorted(entry["pair"] for entry in entries) == sorted([*range(40, 52)] * 2)
    assert not any(entry["flagged"] for entry in entries)
    questioned = [entry for entry in entries if not entry["trusted"]]
    others = [entry for entry in log if entry["pair"] < 40 and not entry["trusted"]]
    assert max(e["detector_margin"] for e in questioned) < min(e["detector_margin"] for e in others)
    assert sum(entry["flagged"] for entry in others) > 10
    for entry in entries:
        assert entry["loss"] == pytest.approx(float(torch.nn.functional.softplus(torch.tensor(-entry["margin"]))), 1e-4)
