"""The trainer with the rivals' losses, against TRL's own trainer."""

from pathlib import Path

import pytest
import torch
from test_trainer import config, losses_as_trls, make_pairs, run
from transformers import LlamaForCausalLM


@pytest.mark.parametrize(
    ("loss", "theirs", "batch"),
    [
        ("robust", "robust", 4),
        # TRL has no cDPO. Its AOT smooths labels as cDPO does and sorts margins within the batch: of one, nothing.
        ("conservative", "aot", 1),
    ],
)
def test_equals_trls(tiny_model: LlamaForCausalLM, tokenizer, tmp_path: Path, loss: str, theirs: str, batch: int):
    """α = 0.3, one epoch on 14 pairs: the losses of every batch, and the weights at the end."""
    size = {"per_device_train_batch_size": batch}
    args, stock_args = config(tmp_path, **size), config(tmp_path, **size, loss_type=[theirs], label_smoothing=0.3)
    losses, twin = losses_as_trls(
        tiny_model, make_pairs(14), args, stock_args, tokenizer, 1e-4, loss=loss, label_smoothing=0.3
    )
    assert max(losses) - min(losses) > 0.01  # else they would agree by standing still
    for name, parameter in twin.named_parameters():
        torch.testing.assert_close(tiny_model.get_parameter(name), parameter, atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize("loss", ["conservative", "robust"])
def test_no_pair_is_checked_by_the_noise_detector(tiny_model: LlamaForCausalLM, tokenizer, tmp_path: Path, loss: str):
    """They treat every label alike: no detector, whatever K and λ are."""
    trainer = run(tiny_model, None, make_pairs(12), config(tmp_path), tokenizer, loss=loss, label_smoothing=0.1)
    assert len(trainer.pair_log) == 12
    assert all(entry["detector_margin"] is None and not entry["flagged"] for entry in trainer.pair_log)
