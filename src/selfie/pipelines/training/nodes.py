"""Nodes of the training pipeline."""

from functools import partial
from pathlib import Path

from datasets import Dataset

from selfie.config.execution import DEFAULT_EXECUTION, ExecutionParameters
from selfie.config.training import TrainingParameters
from selfie.models.checkpoint import Checkpoint
from selfie.runtime.random_seeds import derive_seed
from selfie.training.pairs import add_human_pairs
from selfie.training.processes import train_in_processes, training_processes
from selfie.training.train import train

STEP_VERSIONS = {
    "train_policy": 1,
}


def train_policy(
    pairs: Dataset,
    previous_policy: Checkpoint,
    workspace: Path,
    parameters: TrainingParameters,
    precision: str,
    beta: float,
    seed: int,
    execution: ExecutionParameters = DEFAULT_EXECUTION,
    human_pairs: Dataset | None = None,
) -> tuple[Checkpoint, Dataset]:
    """Preference training; seeding is iteration 0 and trusts every label (α = 0)."""
    iteration = pairs[0]["iteration"]
    if human_pairs is not None:
        pairs = add_human_pairs(pairs, human_pairs, parameters.replay)
    alone = training_processes(execution) == 1
    policy, log = (train if alone else partial(train_in_processes, execution))(
        previous_policy,
        pairs,
        parameters,
        beta,
        iteration,
        derive_seed(seed, "training", iteration),
        workspace,
        precision,
    )
    return policy, Dataset.from_list(log)
