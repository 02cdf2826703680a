"""The trainer with the rivals' losses, against TRL's own trainer."""

from pathlib import Path

import numpy as np
import pytest
import torch
from test_trainer import StockTrainer, by_step, config, copy_of, make_pairs, run
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
    pairs = make_pairs(14)
    twin, reference = copy_of(tiny_model), copy_of(tiny_model)
    ours = run(
        tiny_model,
        None,
        pairs,
        config(tmp_path, per_device_train_batch_size=batch),
        tokenizer,
        loss=loss,
        label_smoothing=0.3,
    )
    stock_config = config(
        tmp_path,
        per_device_train_batch_size=batch,
        loss_type=[theirs],
        label_smoothing=0.3,
    )
    columns = ["prompt_ids", "chosen_ids", "rejected_ids"]
    stock = StockTrainer(
        twin, reference, stock_config, train_dataset=pairs.select_columns(columns), processing_class=tokenizer
    )
    stock.train()
    losses = [np.mean([entry["loss"] for entry in entries]) for entries in by_step(ours.pair_log).values()]
    assert losses == pytest.approx(stock.losses, abs=1e-4)
    assert max(losses) - min(losses) > 0.01  # else they would agree by standing still
    for name, parameter in twin.named_parameters():
        torch.testing.assert_close(tiny_model.get_parameter(name), parameter, atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize("loss", ["conservative", "robust"])
def test_no_pair_is_checked_by_the_noise_detector(tiny_model: LlamaForCausalLM, tokenizer, tmp_path: Path, loss: str):
    """They treat every label alike: no detector, whatever K and λ are."""
    trainer = run(tiny_model, None, make_pairs(12), config(tmp_path), tokenizer, loss=loss, label_smoothing=0.1)
    assert len(trainer.pair_log) == 12
    assert all(entry["detector_margin"] is None and not entry["flagged"] for entry in trainer.pair_log)
