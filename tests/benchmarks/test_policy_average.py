"""The average of policies: between them in direction, as far from the initial model as the last one."""

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from benchmarks.policy_average import averaged
from selfie.models.checkpoint import Checkpoint


def weights(model: PreTrainedModel) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def test_the_average_of_three(make_checkpoint: Callable[..., Checkpoint], tokenizer: PreTrainedTokenizerFast):
    initial, *policies = (make_checkpoint(tokenizer, seed) for seed in range(4))
    start, *theirs = (weights(one.load_model(torch.float32)) for one in (initial, *policies))
    change = weights(averaged(policies, initial)) - start
    mean = sum(theirs) / 3 - start
    assert change.norm().item() == pytest.approx((theirs[-1] - start).norm().item(), rel=1e-4)
    torch.testing.assert_close(change / change.norm(), mean / mean.norm(), atol=1e-5, rtol=1e-3)


def test_the_average_of_one_is_that_one(make_checkpoint: Callable[..., Checkpoint], tokenizer: PreTrainedTokenizerFast):
    initial, policy = (make_checkpoint(tokenizer, seed) for seed in range(2))
    torch.testing.assert_close(weights(averaged([policy], initial)), weights(policy.load_model(torch.float32)))
