"""Attention for rows laid end to end, in which one prompt is followed by several responses.

A mask that hides the other rows and responses would be simple and slow: kernels compute what it hides, and those for
plain causal attention, twice as fast or more, take none. Here queries, keys and values are unrolled to one path a
response (the prompt, then that response), causal attention does those, and its results go back to their places. Only
attention meets a prompt more than once, or padding; the weights meet every token once.
"""

import inspect
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from selfie.models.precision import multiplies_bf16
from selfie.scoring.cpu_attention import causal_attention

logger = logging.getLogger(__name__)
NAME = "selfie_paths"
_paths: ContextVar[tuple[tuple[Tensor, ...], Tensor] | None] = ContextVar("paths", default=None)


@contextmanager
def attending_along(paths: tuple[Tensor, ...] | None, place: Tensor | None) -> Iterator[None]:
    """Within it, a model that :func:`share_prompts` made ready attends along ``paths``; plainly where they are None.

    ``paths`` and ``place`` are those of :class:`selfie.scoring.packed_rows.Rows`.
    """
    token = _paths.set(None if paths is None or place is None else (paths, place))
    try:
        yield
    finally:
        _paths.reset(token)


def recomputing_alike() -> tuple[AbstractContextManager, AbstractContextManager]:
    """For ``torch.utils.checkpoint`` (``context_fn``): what a layer's forward pass and its recomputation run in.

    The backward pass comes after :func:`attending_along` was left, and on a GPU in a thread of its own.
    """
    paths, place = _paths.get() or (None, None)
    return nullcontext(), attending_along(paths, place)


def _attend(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """As transformers' attention functions: states [rows, heads, length, width] → [rows, length, heads, width]."""
    unrolled = _paths.get()
    if unrolled is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    paths, place = unrolled
    shape = query.shape[0], query.shape[2]
    outputs = []
    for group in paths:
        q, k, v = _along(group, query), _along(group, key), _along(group, value)
        if _in_bf16_on_a_cpu(query) and not options.get("dropout") and options.get("position_bias") is None:
            output = causal_attention(q, k, v, options.get("scaling") or query.shape[-1] ** -0.5).transpose(1, 2)
        else:
            output = sdpa_attention_forward(module, q, k, v, None, **options)[0]
        outputs.append(output.flatten(0, 1))
    return torch.cat(outputs).index_select(0, place).unflatten(0, shape), None


def _in_bf16_on_a_cpu(states: Tensor) -> bool:
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return (
        states.device.type == "cpu" and (states.dtype == torch.bfloat16 or autocast) and multiplies_bf16(states.device)
    )


def _along(paths: Tensor, states: Tensor) -> Tensor:
    positions = states.transpose(1, 2).flatten(0, 1).index_select(0, paths.flatten())
    return positions.unflatten(0, paths.shape).transpose(1, 2)


AttentionInterface.register(NAME, _attend)


def share_prompts(model: PreTrainedModel, longest: int) -> bool:
    """Makes the model ready for :func:`attending_along`; False, and the model as it was, where that would not be exact.

    That is where layers carry a state from token to token instead of attending, attend through a window shorter than
    the rows, or don't leave attention and positions to the caller.

    Args:
        model: a causal language model.
        longest: tokens of the longest prompt with its response.
    """
    reason = _refusal(model, longest)
    if reason:
        _log_once(f"{model.config.model_type}: every response is scored in a row of its own ({reason})")
        if model.config._attn_implementation == NAME:  # shorter rows came before
            model.set_attn_implementation("sdpa")
        return False
    model.set_attn_implementation(NAME)
    return True


def _refusal(model: PreTrainedModel, longest: int) -> str | None:
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    if model._is_stateful or not kinds <= {"full_attention", "sliding_attention"}:
        return "its layers are not all attention"
    if window and window < longest:
        return f"its attention reaches back {window} tokens, and rows have up to {longest}"
    if config._attn_implementation not in ("sdpa", NAME) or not model._supports_attention_backend:
        return "its attention can't be replaced"
    if "position_ids" not in inspect.signature(model.base_model.forward).parameters:
        return "its forward takes no positions"
    return None


@cache
def _log_once(message: str) -> None:
    logger.info(message)
