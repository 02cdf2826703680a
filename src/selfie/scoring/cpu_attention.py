"""Causal attention in bf16 on a CPU, as matrix products of blocks of queries.

PyTorch's kernel for it takes as long without the causal mask as with it, and as long in fp32 as in bf16. Blocks of
queries against the keys before them use the processor's bf16 matrix products and leave out what the mask hides: half
the time on processors that have such products (docs/performance.md). Scores are rounded to bf16, as transformers' own
"eager" attention rounds them; what all keys have in common, which would make them large, is taken out before. The
backward pass computes the probabilities again (as FlashAttention does, arXiv 2205.14135), so that nothing of the size
length² stays.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

BLOCK = 64  # queries; at 128 a tenth slower, at 256 a half


def causal_attention(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """softmax(scale · Q Kᵀ, causal) V; differentiable.

    Args:
        query: shape [rows, heads, length, width].
        key: shape [rows, key heads, length, width]; each serves heads / key heads neighbouring queries' heads.
        value: shape [rows, key heads, length, value's width].
        scale: of the scores.

    Returns:
        bf16, shape [rows, heads, length, value's width].
    """
    # The same for every key, it changes no probability, and so has no gradient; some models have large biases.
    key = key - key[:, :, :BLOCK].detach().mean(dim=2, keepdim=True)
    query, key, value = (states.to(torch.bfloat16) for states in (query, key, value))
    rows, heads, length, width = query.shape
    key_heads = key.shape[1]
    # The queries' heads of one key's head are so many more rows of the same matrix product.
    grouped = (query * scale).reshape(rows * key_heads, heads // key_heads, length, width)
    output: Tensor = _CausalAttention.apply(grouped, key.flatten(0, 1), value.flatten(0, 1))  # type: ignore[no-untyped-call]
    return output.view(rows, heads, length, -1)


class _CausalAttention(torch.autograd.Function):
    """Of grouped queries [rows, group, length, width], already scaled, keys and values [rows, length, width]."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(query, key, value)
        output = query.new_empty(*query.shape[:3], value.shape[-1])
        for block, seen in _blocks(query.shape[2]):
            probabilities = _probabilities(query[:, :, block], key[:, seen])
            output[:, :, block] = torch.bmm(probabilities, value[:, seen]).unflatten(1, (query.shape[1], -1))
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = ctx.saved_tensors
        (of_output,) = gradients
        of_query = torch.empty_like(query)
        of_key, of_value = (torch.zeros_like(states, dtype=torch.float32) for states in (key, value))
        for block, seen in _blocks(query.shape[2]):
            probabilities = _probabilities(query[:, :, block], key[:, seen])
            of_block = of_output[:, :, block].flatten(1, 2)
            of_probabilities = torch.bmm(of_block, value[:, seen].mT)
            of_scores = torch._softmax_backward_data(of_probabilities, probabilities, -1, probabilities.dtype)
            of_query[:, :, block] = torch.bmm(of_scores, key[:, seen]).unflatten(1, (query.shape[1], -1))
            of_key[:, seen] += torch.bmm(of_scores.mT, query[:, :, block].flatten(1, 2))
            of_value[:, seen] += torch.bmm(probabilities.mT, of_block)
        return of_query, of_key.to(key.dtype), of_value.to(value.dtype)


def _blocks(length: int) -> Iterator[tuple[slice, slice]]:
    """Each block of queries, and the keys that its last one sees."""
    for start in range(0, length, BLOCK):
        end = min(start + BLOCK, length)
        yield slice(start, end), slice(0, end)


def _probabilities(query: Tensor, key: Tensor) -> Tensor:
    """[rows, group, block, width], [rows, seen, width] → [rows, group · block, seen]; the block are the last seen."""
    _, group, block, _ = query.shape
    scores = torch.bmm(query.flatten(1, 2), key.mT)
    later = torch.ones(block, block, dtype=torch.bool).triu(1)
    scores.unflatten(1, (group, block))[..., -block:].masked_fill_(later, -torch.inf)
    return torch.softmax(scores, dim=-1)
