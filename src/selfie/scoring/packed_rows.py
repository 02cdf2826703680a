"""Rows of tokens for one forward pass: a prompt is computed once and followed by several of its responses; no padding.

Such a row is a small tree. Every response sees the prompt and itself, never another response, and its positions go on
from the prompt's, so that its log-prob is what it would be alone (prefix sharing; cf. "Prefix Grouper", arXiv
2506.05433, and prefix-shared DPO, arXiv 2410.20305). See :mod:`selfie.scoring.attention`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

SIMILAR = 0.75  # paths that are padded together differ by no more than a quarter in length


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
    """Rows as tensors, and where in them the responses' log-probs are read.

    Either laid end to end in one line, with a path through it for every response, or, for models that can't follow
    paths, one below the other and padded right with 0, which nothing before it can see.

    Args:
        input_ids: shape [1, tokens of all rows], or [rows, longest row].
        position_ids: shape [1, tokens of all rows]; like ``paths`` and ``place``, None where rows are padded.
        paths: of each response: where the prompt and the response stand in the line. Paths of similar length together,
            padded right: shapes [paths, longest of these].
        place: where in all paths laid end to end each token of the line stands, shape [tokens of all rows].
        predicts: the positions that predict response tokens, into ``input_ids`` laid end to end; shape [response
            tokens].
        tokens: the response tokens, one response after the other, shape [response tokens].
        response: which response each token belongs to, shape [response tokens].
        responses: how many there are.
    """

    input_ids: Tensor
    position_ids: Tensor | None
    paths: tuple[Tensor, ...] | None
    place: Tensor | None
    predicts: Tensor
    tokens: Tensor
    response: Tensor
    responses: int


def lay_out(
    prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], sharing: bool, longest: float = math.inf
) -> list[Row]:
    """Puts neighbours with the same prompt into one row, or every response into one of its own.

    Args:
        prompts: one a response.
        responses: their token ids.
        sharing: whether the model can; see :func:`selfie.scoring.attention.share_prompts`.
        longest: tokens beyond which a row takes no further response.
    """
    rows: list[Row] = []
    for number, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        if sharing and rows and rows[-1].prompt == prompt and len(rows[-1]) + len(response) <= longest:
            rows[-1].responses.append(response)
            rows[-1].numbers.append(number)
        else:
            rows.append(Row(prompt, [response], [number]))
    return rows


def stack(rows: Sequence[Row], sharing: bool, device: torch.device) -> Rows:
    """Tensors of these rows, end to end with ``sharing``, else padded: rows must then hold one response each.

    Responses are counted in the order in which they stand in the rows.
    """
    counts = [len(response) for row in rows for response in row.responses]
    longest = max(len(row.prompt) + len(response) for row in rows for response in row.responses)
    input_ids = torch.zeros(sum(map(len, rows)) if sharing else len(rows) * longest, dtype=torch.long)
    position_ids = torch.zeros_like(input_ids)
    paths: list[Tensor] = []
    predicts: list[Tensor] = []
    end = 0
    for line, row in enumerate(rows):
        start = end if sharing else line * longest
        end = start + len(row.prompt)
        prompt = torch.arange(start, end)
        for response in row.responses:
            path = torch.cat([prompt, torch.arange(end, end + len(response))])
            end += len(response)
            input_ids[path] = torch.tensor([*row.prompt, *response], dtype=torch.long)
            position_ids[path] = torch.arange(len(path))
            paths.append(path)
            predicts.append(path[len(prompt) - 1 : -1])
    tokens = [token for row in rows for response in row.responses for token in response]
    groups, place = _by_length(paths, len(input_ids), device) if sharing else (None, None)
    return Rows(
        input_ids.view(1 if sharing else len(rows), -1).to(device),
        position_ids[None].to(device) if sharing else None,
        groups,
        place,
        torch.cat(predicts).to(device),
        torch.tensor(tokens, device=device),
        torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(device),
        len(counts),
    )


def _by_length(paths: list[Tensor], tokens: int, device: torch.device) -> tuple[tuple[Tensor, ...], Tensor]:
    """``paths`` and ``place`` of :class:`Rows`: attention costs the square of a group's longest path."""
    groups: list[list[Tensor]] = []
    for path in sorted(paths, key=len, reverse=True):
        if not groups or len(path) < SIMILAR * len(groups[-1][0]):
            groups.append([])
        groups[-1].append(path)
    padded, place, start = [], torch.zeros(tokens, dtype=torch.long), 0
    for group in groups:
        for path in group:
            place[path] = start + torch.arange(len(path))  # a prompt stands in several paths, and is the same in each
            start += len(group[0])
        padded.append(pad_sequence(group, batch_first=True).to(device))
    return tuple(padded), place.to(device)
