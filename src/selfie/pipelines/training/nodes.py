"""Nodes of the training pipeline."""

from pathlib import Path

from datasets import Dataset, concatenate_datasets

from selfie.checkpoints import Checkpoint
from selfie.datasets.shards import Shards
from selfie.parameters import JudgingParameters, TrainingParameters
from selfie.randomness import derive_seed
from selfie.training.pairs import add_human_pairs, with_reference
from selfie.training.train import train


def score_replayed(
    human_pairs: Dataset,
    previous_policy: Checkpoint,
    workspace: Path,
    training: TrainingParameters,
    judging: JudgingParameters,
) -> Dataset:
    """The human's pairs, ``replay`` times over, with the previous policy's log-probs as the reference's."""
    shards = Shards(workspace, judging.shard_rows)
    pairs = with_reference(human_pairs, previous_policy, judging.batch_tokens, shards)
    return concatenate_datasets([pairs] * training.replay)


def train_policy(
    pairs: Dataset,
    previous_policy: Checkpoint,
    workspace: Path,
    parameters: TrainingParameters,
    beta: float,
    seed: int,
    replayed_pairs: Dataset | None = None,
) -> tuple[Checkpoint, Dataset]:
    """Preference training; seeding is iteration 0 and trusts every label (α = 0)."""
    iteration = pairs[0]["iteration"]
    if replayed_pairs is not None:
        pairs = add_human_pairs(pairs, replayed_pairs)
    policy, log = train(
        previous_policy, pairs, parameters, beta, iteration, derive_seed(seed, "training", iteration), workspace
    )
    return policy, Dataset.from_list(log)
