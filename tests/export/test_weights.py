"""ExPO by hand, and weights that a dtype can't hold."""

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from selfie.errors import ModelError
from selfie.export.weights import check_finite, exported_weights, extrapolate
from selfie.models.checkpoint import Checkpoint


def test_extrapolation_by_hand(tiny_checkpoint: Checkpoint):
    """θ = 2, θ_0 = 1.5, ε = 0.3: 2 + 0.3 · 0.5 = 2.15, in every weight."""
    model, initial = (tiny_checkpoint.load_model(torch.float32) for _ in range(2))
    for weight in model.parameters():
        weight.data.fill_(2.0)
    for weight in initial.parameters():
        weight.data.fill_(1.5)
    extrapolate(model, initial, 0.3)
    assert all(torch.allclose(weight, torch.tensor(2.15)) for weight in model.parameters())


def test_weights_of_two_checkpoints(
    tiny_checkpoint: Checkpoint, make_checkpoint: Callable[..., Checkpoint], tokenizer: PreTrainedTokenizerFast
):
    policy = make_checkpoint(tokenizer, seed=1)
    plain = dict(exported_weights(policy, tiny_checkpoint, 0.0).named_parameters())
    start = dict(tiny_checkpoint.load_model(torch.float32).named_parameters())
    for name, weight in exported_weights(policy, tiny_checkpoint, 0.5).named_parameters():
        assert torch.allclose(weight, 1.5 * plain[name] - 0.5 * start[name])


def test_float16_refuses_what_it_cannot_hold(tiny_checkpoint: Checkpoint):
    model = tiny_checkpoint.load_model(torch.float32)
    model.get_parameter("model.norm.weight").data[3] = 70_000
    check_finite(model, torch.bfloat16, "policy_1", "export.dtype")
    with pytest.raises(ModelError, match=r"policy_1: model\.norm\.weight has values that float16 can't hold"):
        check_finite(model, torch.float16, "policy_1", "export.dtype")
