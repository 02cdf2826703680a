"""log π(y|x) for many responses: prompts computed once, sorted by length, logits at response positions only."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from selfie.execution.map_shards import map_shards
from selfie.models.batching import token_batches, with_oom_backoff
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import Arithmetic
from selfie.preference.token_log_probs import Head, sum_by_sequence, token_log_probs
from selfie.runtime.memory import free_memory, reuse_memory
from selfie.scoring.attention import attending_along, share_prompts
from selfie.scoring.packed_rows import Row, Rows, lay_out, stack
from selfie.storage.shards import Compute, Shards


def score(
    checkpoint: Checkpoint,
    prompts: Sequence[list[int]],
    responses: Sequence[list[int]],
    batch_tokens: int,
    name: str,
    shards: Shards | None = None,
    arithmetic: Arithmetic = Arithmetic.FLOAT32,
) -> np.ndarray:
    """Summed log-prob (nats) of each response after its prompt, on exactly these token ids; shape [responses].

    Args:
        checkpoint: the model; its memory is freed before the function returns.
        prompts: rendered prompts' token ids, one a response; neighbours with the same prompt share its computation.
            A dataset's column is read a shard at a time.
        responses: the responses' token ids, with the end-of-sequence token if they have one.
        batch_tokens: tokens (rows × longest row) of one forward pass.
        name: what the progress bar calls the model.
        shards: where finished shards of log-probs are kept until all are there; without, all is done in one piece.
        arithmetic: of the model's passes; sums over tokens are float64.
    """
    scorer = partial(_open_scorer, checkpoint, prompts, responses, batch_tokens, name, arithmetic)
    scored = map_shards(scorer, shards, len(responses))
    return scored.with_format("numpy", dtype=np.float64)["log_prob"][:]


@contextmanager
def _open_scorer(
    checkpoint: Checkpoint,
    prompts: Sequence[list[int]],
    responses: Sequence[list[int]],
    batch_tokens: int,
    name: str,
    arithmetic: Arithmetic,
) -> Iterator[Compute]:
    reuse_memory()
    load = cache(lambda: checkpoint.load_model(arithmetic.dtype))

    def score_part(part: range) -> Dataset:
        rows = slice(part.start, part.stop)
        return Dataset.from_dict({"log_prob": _score_rows(load(), prompts[rows], responses[rows], batch_tokens, name)})

    with arithmetic.products():
        yield score_part
    load.cache_clear()  # whoever opened this still holds score_part
    free_memory()


def _score_rows(
    model: PreTrainedModel, prompts: Sequence[list[int]], responses: Sequence[list[int]], batch_tokens: int, name: str
) -> list[float]:
    sharing = share_prompts(model, max(len(p) + len(r) for p, r in zip(prompts, responses, strict=True)))
    rows = lay_out(prompts, responses, sharing, longest=batch_tokens)
    log_probs = [0.0] * len(responses)
    with tqdm(total=len(responses), desc=f"scoring under {name}", unit="response") as progress:
        for batch in token_batches([len(row) for row in rows], batch_tokens):
            sums = with_oom_backoff(lambda part: _score_batch(model, [rows[i] for i in part], sharing), batch)
            for index, values in zip(batch, sums, strict=True):
                for number, value in zip(rows[index].numbers, values, strict=True):
                    log_probs[number] = value
                progress.update(len(values))
    return log_probs


@torch.inference_mode()
def _score_batch(model: PreTrainedModel, rows: Sequence[Row], sharing: bool) -> list[list[float]]:
    """The log-probs of each row's responses."""
    sums, _ = response_log_probs(model, stack(rows, sharing, model.device))
    return [part.tolist() for part in sums.split([len(row.responses) for row in rows])]


def response_log_probs(model: PreTrainedModel, rows: Rows) -> tuple[Tensor, Tensor]:
    """One forward pass; differentiable unless the caller says otherwise.

    Returns:
        The summed log-probs of the responses (float64, nats), shape [responses], and the hidden states that predict
        their tokens, shape [response tokens, width].
    """
    hidden = response_hidden(model, rows)
    log_probs = token_log_probs(hidden, rows.tokens, Head.of(model))
    return sum_by_sequence(log_probs, rows.response, rows.responses), hidden


def response_hidden(model: PreTrainedModel, rows: Rows) -> Tensor:
    """The last hidden states that predict the responses' tokens, shape [response tokens, width]."""
    given = {} if rows.position_ids is None else {"position_ids": rows.position_ids}
    with attending_along(rows.paths, rows.place):
        backbone = model.base_model(input_ids=rows.input_ids, use_cache=False, **given)
    return backbone.last_hidden_state.flatten(0, 1)[rows.predicts]
