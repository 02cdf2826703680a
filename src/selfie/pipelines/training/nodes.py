"""Nodes of the training pipeline."""

from pathlib import Path

from datasets import Dataset

from selfie.checkpoints import Checkpoint
from selfie.parameters import TrainingParameters
from selfie.randomness import derive_seed
from selfie.training.train import train


def train_policy(
    pairs: Dataset,
    previous_policy: Checkpoint,
    workspace: Path,
    parameters: TrainingParameters,
    beta: float,
    seed: int,
) -> tuple[Checkpoint, Dataset]:
    """Preference training; seeding is iteration 0 and trusts every label (α = 0)."""
    iteration = pairs[0]["iteration"]
    policy, log = train(
        previous_policy, pairs, parameters, beta, iteration, derive_seed(seed, "training", iteration), workspace
    )
    return policy, Dataset.from_list(log)
