"""Causal attention on a CPU, against exact attention and against PyTorch's kernel."""

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaForCausalLM

from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import multiplies_bf16
from selfie.scoring import attention
from selfie.scoring.attention import share_prompts
from selfie.scoring.cpu_attention import BLOCK, causal_attention
from selfie.scoring.log_probs import response_log_probs
from selfie.scoring.packed_rows import lay_out, stack

CPU = torch.device("cpu")
SCALE = 0.2
NEAR = 1.8  # times the kernel's error: scores are rounded to bf16, and keys without what they have in common


def kernel(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    key, value = (states.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for states in (key, value))
    return scaled_dot_product_attention(query, key, value, is_causal=True, scale=SCALE)


def ours(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return causal_attention(query, key, value, SCALE)


def results(attend: Callable[..., Tensor], states: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """The output and the gradients of its product with something fixed."""
    leaves = [x.to(dtype).requires_grad_() for x in states]
    output = attend(*leaves)
    output.backward(torch.linspace(-1, 1, output.numel()).view_as(output).to(dtype))
    return [output.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def errors(found: list[Tensor], exact: list[Tensor]) -> list[float]:
    """Relative root mean squares."""
    return [float((a - b).square().mean().sqrt() / b.square().mean().sqrt()) for a, b in zip(found, exact, strict=True)]


@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (3, 1)])
@pytest.mark.parametrize("length", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7])
def test_nearly_as_exact_as_the_kernel(length: int, heads: tuple[int, int]):
    torch.manual_seed(length)
    states = [torch.randn(2, number, length, 16).bfloat16() for number in (heads[0], heads[1], heads[1])]
    exact = results(kernel, states, torch.float64)
    found, expected = (errors(results(f, states, torch.bfloat16), exact) for f in (ours, kernel))
    assert len(found) == 4
    for error, bound in zip(found[: 4 if length > 1 else 1], expected, strict=False):  # a single score has no gradient
        assert error <= NEAR * bound + 1e-6


def test_what_all_keys_have_in_common_costs_no_precision():
    """Large biases of keys, as some models have, would make scores of over 100, which bf16 rounds to halves."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, heads, 200, 16) for heads in (4, 2, 2))
    states = [x.bfloat16() for x in (query, key + 30, value)]
    exact = results(kernel, states, torch.float64)
    found, expected = (errors(results(f, states, torch.bfloat16), exact) for f in (ours, kernel))
    for error, bound in zip(found, expected, strict=True):
        assert error <= NEAR * bound


def test_values_of_another_width_and_strides():
    torch.manual_seed(0)
    states = [
        torch.randn(2, 70, heads, width).bfloat16().transpose(1, 2) for heads, width in ((4, 16), (2, 16), (2, 24))
    ]
    exact = results(kernel, states, torch.float64)
    assert exact[0].shape == (2, 4, 70, 24)
    assert max(errors(results(ours, states, torch.bfloat16), exact)) < 0.02


def test_what_comes_later_has_no_influence():
    torch.manual_seed(0)
    states = [torch.randn(1, heads, 2 * BLOCK, 16).bfloat16() for heads in (4, 2, 2)]
    before = ours(*states)
    for x in states:
        x[:, :, BLOCK + 5 :] = 9.0
    after = ours(*states)
    assert torch.equal(before[:, :, : BLOCK + 5], after[:, :, : BLOCK + 5])
    assert not torch.equal(before, after)


def without(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(attention, "_in_bf16_on_a_cpu", lambda _: False)


@pytest.mark.skipif(
    not multiplies_bf16(torch.device("cpu")), reason="this processor has no bf16 products: PyTorch's kernel is used"
)
def test_a_models_log_probs_and_gradients_are_as_near_to_fp32s(tiny_checkpoint: Checkpoint, monkeypatch):
    """Judging in bf16 and training under autocast: errors are at most a quarter more than with PyTorch's kernel."""
    rng = random.Random(0)
    prompts = [[rng.randrange(5, 77) for _ in range(30)] for _ in range(60)]
    prompts = [prompt for prompt in prompts for _ in range(2)]
    responses = [[rng.randrange(5, 77) for _ in range(rng.randint(20, 120))] for _ in prompts]
    rows = stack(lay_out(prompts, responses, True), True, CPU)

    def of(dtype: torch.dtype, autocast: bool) -> list[Tensor]:
        model = tiny_checkpoint.load_model(dtype).to(CPU)
        assert isinstance(model, LlamaForCausalLM)
        assert share_prompts(model, longest=200)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            log_probs, _ = response_log_probs(model, rows)
        (log_probs * torch.linspace(-1, 1, 120)).sum().backward()
        gradients = [p.grad.float().flatten() for p in model.parameters() if p.grad is not None]
        return [log_probs.detach(), torch.cat(gradients)]

    exact = of(torch.float32, False)
    for setting in ((torch.bfloat16, False), (torch.float32, True)):
        found = of(*setting)
        with monkeypatch.context() as patch:
            without(patch)
            plain = of(*setting)
        assert not torch.equal(found[1], plain[1])  # it is what was used
        for error, bound in zip(errors(found, exact), errors(plain, exact), strict=True):
            assert error <= 1.25 * bound
