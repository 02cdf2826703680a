"""Rows of tokens for one forward pass: a prompt is computed once and followed by several of its responses.

Such a row is a small tree. Every response sees the prompt and itself, never another response, and its positions go on
from the prompt's, so that its log-prob is what it would be alone (prefix sharing; cf. "Prefix Grouper", arXiv
2506.05433, and prefix-shared DPO, arXiv 2410.20305). Models whose layers can't be masked so get a row a response.
"""

import inspect
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from transformers import PreTrainedModel

logger = logging.getLogger(__name__)
PADDING = -1
ATTENTION_SLOWNESS = 4  # a multiplication in masked attention takes so many of the weights' (53 of 205 GFLOP/s, Zen 4)


@dataclass(frozen=True)
class Row:
    """A prompt and one or more responses to it, with the responses' numbers in the caller's order."""

    prompt: Sequence[int]
    responses: list[Sequence[int]]
    numbers: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + sum(map(len, self.responses))


@dataclass(frozen=True)
class Rows:
    """Padded rows as tensors, and where in them the responses' log-probs are read.

    Args:
        input_ids: shape [rows, length], padded right with 0.
        attention_mask: who sees whom, bool, shape [rows, 1, length, length], where rows hold several responses. None
            where each holds one: no token sees what comes after it, so padding on the right needs no mask.
        position_ids: shape [rows, length]; None for 0, 1, 2, …
        predicts: the positions that predict response tokens, into the rows laid end to end; shape [response tokens].
        tokens: the response tokens, one response after the other, shape [response tokens].
        response: which response each token belongs to, shape [response tokens].
        responses: how many there are.
    """

    input_ids: Tensor
    attention_mask: Tensor | None
    position_ids: Tensor | None
    predicts: Tensor
    tokens: Tensor
    response: Tensor
    responses: int


def lay_out(prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], sharing: float) -> list[Row]:
    """Puts neighbours with the same prompt into one row, while that saves work.

    A response of r tokens in a row of L, instead of one of its own with its prompt of p, saves p tokens' pass through
    the weights. It costs attention: rows of several responses attend to (L + r)² pairs, for the kernels compute what
    the mask then hides; rows of one to half of theirs.

    Args:
        prompts: one a response.
        responses: their token ids.
        sharing: see :func:`prompt_sharing`.
    """
    rows: list[Row] = []
    for number, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        if sharing and rows and rows[-1].prompt == prompt:
            row, length, joined = rows[-1], len(rows[-1]), len(rows[-1]) + len(response)
            before = length**2 / (2 if len(row.responses) == 1 else 1) + (len(prompt) + len(response)) ** 2 / 2
            if joined**2 - before < sharing * len(prompt):
                row.responses.append(response)
                row.numbers.append(number)
                continue
        rows.append(Row(prompt, [response], [number]))
    return rows


def stack(rows: Sequence[Row], device: torch.device) -> Rows:
    """Tensors of these rows. Responses are counted in the order in which they stand in them."""
    length = max(map(len, rows))
    input_ids = torch.zeros(len(rows), length, dtype=torch.long)
    segments = torch.full_like(input_ids, PADDING)  # 0: the prompt; 1, 2, …: its responses
    position_ids = torch.zeros_like(input_ids)
    predicts, tokens, counts = [], [], []
    for line, row in enumerate(rows):
        prompt_length, end = len(row.prompt), 0
        for segment, ids in enumerate([row.prompt, *row.responses]):
            start, end, depth = end, end + len(ids), prompt_length if segment else 0
            here = slice(start, end)
            input_ids[line, here] = torch.tensor(ids, dtype=torch.long)
            segments[line, here] = segment
            position_ids[line, here] = torch.arange(depth, depth + len(ids))
            if segment:  # the last token of the prompt predicts the first of every response
                before = torch.arange(start - 1, start - 1 + len(ids))
                before[:1] = prompt_length - 1
                predicts.append(line * length + before)
                tokens.append(input_ids[line, here])
                counts.append(len(ids))
    trees = any(len(row.responses) > 1 for row in rows)
    return Rows(
        input_ids.to(device),
        _visible(segments.to(device)) if trees else None,
        position_ids.to(device) if trees else None,
        torch.cat(predicts).to(device),
        torch.cat(tokens).to(device),
        torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(device),
        len(counts),
    )


def _visible(segments: Tensor) -> Tensor:
    """Who sees whom, bool [rows, 1, length, length]: what came before of the prompt and of one's own segment.

    Padding sees itself, since a position that sees nothing would have no attention weights.
    """
    ours, theirs = segments[:, :, None], segments[:, None, :]
    return (((theirs == 0) | (theirs == ours)).tril())[:, None]


def prompt_sharing(model: PreTrainedModel, longest: int) -> float:
    """How readily the model's rows share prompts: at how many tokens of context attention takes as long as the weights.

    0 where they can't: where layers carry a state from token to token instead of attending, attend through a window
    shorter than the rows, or don't take a mask and positions from outside.

    Args:
        model: a causal language model.
        longest: tokens of the longest prompt with its response.
    """
    reason = _refusal(model, longest)
    if reason:
        _log_once(f"{model.config.model_type}: every response is scored in a row of its own ({reason})")
        return 0.0
    config = model.config.get_text_config()
    embeddings = 2 if model.get_input_embeddings().weight is not model.get_output_embeddings().weight else 1
    weights = model.num_parameters() - embeddings * model.get_output_embeddings().weight.numel()
    return weights / (2 * config.num_hidden_layers * config.hidden_size * ATTENTION_SLOWNESS)


def _refusal(model: PreTrainedModel, longest: int) -> str | None:
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    if model._is_stateful or not kinds <= {"full_attention", "sliding_attention"}:
        return "its layers are not all attention"
    if window and window < longest:
        return f"its attention reaches back {window} tokens, and rows have up to {longest}"
    if config._attn_implementation != "sdpa" or not model._supports_attention_backend:
        return "its attention takes no mask from outside"
    if "position_ids" not in inspect.signature(model.base_model.forward).parameters:
        return "its forward takes no positions"
    return None


@cache
def _log_once(message: str) -> None:
    logger.info(message)
