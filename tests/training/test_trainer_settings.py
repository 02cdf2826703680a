"""Several GPUs in one process's sight: it trains on one of them."""

from pathlib import Path

import pytest
import torch
from datasets import Dataset
from test_checkpointing import PARAMETERS, run

from configuration import parameters
from selfie.judges.reward_model import train_reward_model
from selfie.models.checkpoint import Checkpoint
from selfie.training import trainer_settings


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers counts two and would use both; where there is none, the work goes to the CPU all the same."""
    monkeypatch.setattr(trainer_settings, "compute_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("transformers.training_args.is_torch_bf16_gpu_available", lambda: True)


@pytest.mark.usefixtures("two_gpus")
def test_a_policy_is_trained(tiny_checkpoint: Checkpoint, pairs, uninterrupted, tmp_path: Path):
    """TRL refuses two devices in one process; the policy is as from one."""
    assert run(tiny_checkpoint, pairs, tmp_path, PARAMETERS) == uninterrupted


@pytest.mark.usefixtures("two_gpus")
def test_a_reward_model_is_trained(tiny_checkpoint: Checkpoint, tmp_path: Path):
    prompt = [{"role": "user", "content": "t00 t01 t02"}]
    rows = [{"messages": prompt, "chosen": "w00 w01", "rejected": "w02"}] * 4
    reward_model = parameters("test").reward_model
    assert reward_model is not None
    settings = reward_model.model_copy(update={"epochs": 1, "batch_size": 4, "micro_batch_size": 2})
    trained = train_reward_model(tiny_checkpoint, Dataset.from_list(rows), settings, 0, tmp_path)
    assert (Path(trained.source) / "model.safetensors").exists()
