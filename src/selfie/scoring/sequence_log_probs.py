"""log π(y|x) for many responses: sorted by length, batched by a token budget, logits at response positions only."""

import gc
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from selfie.checkpoints import Checkpoint
from selfie.datasets.shards import Shards
from selfie.generation.batches import halving, token_batches
from selfie.preference.log_probs import Head, sum_by_sequence, token_log_probs


def score(
    checkpoint: Checkpoint,
    prompts: Sequence[list[int]],
    responses: Sequence[list[int]],
    batch_tokens: int,
    name: str,
    shards: Shards | None = None,
) -> list[float]:
    """Summed log-prob (nats) of each response after its prompt, on exactly these token ids.

    Args:
        checkpoint: the model; loaded in bf16, sums in fp32, its memory freed before the function returns.
        prompts: rendered prompts' token ids, one a response.
        responses: the responses' token ids, with the end-of-sequence token if they have one.
        batch_tokens: tokens (rows × longest row) of one forward pass.
        name: what the progress bar calls the model.
        shards: where finished shards of log-probs are kept until all are there; without, all is done in one piece.
    """
    load = cache(lambda: checkpoint.load_model(torch.bfloat16))  # not at all where every shard is there already

    def score_part(part: Sequence[tuple[list[int], list[int]]]) -> list[float]:
        return _score_rows(load(), part, batch_tokens, name)

    rows = list(zip(prompts, responses, strict=True))
    log_probs = score_part(rows) if shards is None else shards.map(score_part, rows)
    load.cache_clear()
    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()
    return log_probs


def _score_rows(
    model: PreTrainedModel, rows: Sequence[tuple[list[int], list[int]]], batch_tokens: int, name: str
) -> list[float]:
    log_probs = [0.0] * len(rows)
    lengths = [len(prompt) + len(response) for prompt, response in rows]
    with tqdm(total=len(rows), desc=f"scoring under {name}", unit="response") as progress:
        for batch in token_batches(lengths, batch_tokens):
            sums = halving(lambda part: _score_batch(model, [rows[i] for i in part]), batch)
            for index, value in zip(batch, sums, strict=True):
                log_probs[index] = value
            progress.update(len(batch))
    return log_probs


@torch.inference_mode()
def _score_batch(model: PreTrainedModel, rows: Sequence[tuple[list[int], list[int]]]) -> list[float]:
    prompts, responses = zip(*rows, strict=True)
    return response_log_probs(model, *pad_right(prompts, responses, model.device))[0].tolist()


def response_log_probs(
    model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor, response_mask: Tensor
) -> tuple[Tensor, Tensor]:
    """One forward pass over rows as :func:`pad_right` makes them; differentiable unless the caller says otherwise.

    Returns:
        The rows' summed response log-probs (fp32 nats), shape [rows], and the hidden states that predict the response
        tokens, row after row, shape [response tokens, width].
    """
    backbone = model.base_model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
    hidden, tokens, predicts = response_positions(backbone.last_hidden_state, input_ids, response_mask)
    return sum_by_sequence(token_log_probs(hidden, tokens, Head.of(model)), predicts), hidden


def response_positions(hidden: Tensor, input_ids: Tensor, response_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The positions that predict response tokens (position t predicts token t + 1).

    Returns:
        Their hidden states [response tokens, width], the tokens they predict [response tokens], and the mask that
        picks them, [rows, length − 1].
    """
    predicts = response_mask[:, 1:]
    return hidden[:, :-1][predicts], input_ids[:, 1:][predicts], predicts


def pad_right(
    prompts: Sequence[list[int]], responses: Sequence[list[int]], device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of prompt + response, padded right: (input_ids, attention_mask, response_mask), each [rows, longest]."""
    longest = max(len(p) + len(r) for p, r in zip(prompts, responses, strict=True))
    input_ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    response_mask = torch.zeros_like(input_ids, dtype=torch.bool)
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        end = len(prompt) + len(response)
        input_ids[row, :end] = torch.tensor(prompt + response)
        attention_mask[row, :end] = 1
        response_mask[row, len(prompt) : end] = True
    return input_ids.to(device), attention_mask.to(device), response_mask.to(device)
