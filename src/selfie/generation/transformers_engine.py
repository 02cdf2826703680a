"""Sampling with ``model.generate``: works everywhere, batches by a token budget, one random stream a row."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional
from tqdm.auto import tqdm
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
    TopPLogitsWarper,
)
from transformers.generation import BaseStreamer

from selfie.generation.engine import Request, Response, Sampling
from selfie.models.batching import token_batches, with_oom_backoff
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import Arithmetic
from selfie.models.stop_tokens import stop_token_ids
from selfie.runtime.memory import free_memory, reuse_memory

DONE_SHARE = 0.25


class SeededSampler(LogitsProcessor):
    """Samples each row from a random stream of its own, by inverting the cumulative distribution.

    ``generate`` draws all rows from one global stream, so a row's sample would depend on the rows beside it and on
    how often the run was resumed. Here row i at step t uses the t-th uniform of the generator seeded for row i; the
    chosen token is handed to greedy search by masking every other one.
    """

    def __init__(self, seeds: Sequence[int], sampling: Sampling, prompt_length: int):
        self.temperature = sampling.temperature
        self.nucleus = TopPLogitsWarper(sampling.top_p) if sampling.top_p < 1 else None
        self.prompt_length = prompt_length
        self.uniforms = torch.stack(
            [torch.rand(sampling.max_new_tokens, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        )

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores [rows, vocabulary] → −∞ everywhere but 0 at the sampled token."""
        logits = scores.float() / self.temperature
        if self.nucleus is not None:
            logits = self.nucleus(input_ids, logits)
        cumulative = torch.softmax(logits, dim=-1).cumsum(dim=-1)
        uniform = self.uniforms[:, input_ids.shape[1] - self.prompt_length, None].to(scores.device)
        token = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
        # Rounding can put the draw on a token of zero probability at the very end; the last possible one is meant.
        last = (torch.isfinite(logits) * torch.arange(logits.shape[-1], device=logits.device)).amax(-1, keepdim=True)
        return torch.full_like(scores, -torch.inf).scatter(-1, torch.minimum(token, last), 0.0)


class StopWhenMostFinished(StoppingCriteria):
    """Ends a call of ``generate`` once a quarter of its rows have ended: ended rows cost as much as running ones."""

    def __init__(self, stops: Sequence[int], start: int):
        self.stops, self.start = stops, start

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        """The same answer for every row, bool [rows]."""
        stops = torch.tensor(self.stops, device=input_ids.device)
        done = torch.isin(input_ids[:, self.start :], stops).any(dim=1)
        return (done.float().mean() >= DONE_SHARE).expand_as(done)


class TransformersEngine:
    """The model on the compute device."""

    def __init__(self, checkpoint: Checkpoint, batch_tokens: int, arithmetic: Arithmetic = Arithmetic.FLOAT32):
        self.checkpoint, self.batch_tokens, self.arithmetic = checkpoint, batch_tokens, arithmetic

    def __enter__(self) -> Self:
        reuse_memory()
        self.model: Any = self.checkpoint.load_model(self.arithmetic.dtype)
        # What the model's own file asks for (penalties, forbidden words …) would be merged into each call's settings.
        self.model.generation_config = GenerationConfig()
        self.tokenizer = self.checkpoint.load_tokenizer()
        self.stops = stop_token_ids(self.checkpoint, self.tokenizer)
        return self

    def __exit__(self, *_: object) -> None:
        del self.model
        free_memory()

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """One response a request, in order; see :class:`selfie.generation.engine.Engine`."""
        responses: list[Response | None] = [None] * len(requests)
        lengths = [len(request.prompt_ids) + sampling.max_new_tokens for request in requests]
        with tqdm(total=len(requests), desc="generating", unit="response") as progress:
            for batch in token_batches(lengths, self.batch_tokens):
                drawn = with_oom_backoff(
                    lambda part: self._generate_batch([requests[i] for i in part], sampling), batch
                )
                for index, response in zip(batch, drawn, strict=True):
                    responses[index] = response
                progress.update(len(batch))
        return [response for response in responses if response is not None]

    @torch.inference_mode()
    def stream(self, request: Request, sampling: Sampling, streamer: BaseStreamer) -> None:
        """Draws one response as :meth:`generate` does, and hands each token to ``streamer`` as it comes."""
        ids = torch.tensor([request.prompt_ids], device=self.model.device)
        self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            logits_processor=LogitsProcessorList([SeededSampler([request.seed], sampling, ids.shape[1])]),
            streamer=streamer,
            generation_config=GenerationConfig(
                do_sample=False,
                max_new_tokens=sampling.max_new_tokens,
                eos_token_id=self.stops,
                pad_token_id=self.tokenizer.pad_token_id,
            ),
        )

    @torch.inference_mode()
    def _generate_batch(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        longest = max(len(request.prompt_ids) for request in requests)
        padding = [longest - len(request.prompt_ids) for request in requests]
        pad = self.tokenizer.pad_token_id
        input_ids = [[pad] * p + request.prompt_ids for p, request in zip(padding, requests, strict=True)]
        attention_mask = [[0] * p + [1] * (longest - p) for p in padding]
        sampler = SeededSampler([request.seed for request in requests], sampling, longest)
        ids = torch.tensor(input_ids, device=self.model.device)
        mask = torch.tensor(attention_mask, device=self.model.device)
        # A state can't be taken apart by rows as a cache of keys and values can.
        criteria = [] if self.model._is_stateful else [StopWhenMostFinished(self.stops, longest)]
        responses: list[Response | None] = [None] * len(requests)
        rows, cache = torch.arange(len(requests)), None
        while len(rows):
            output = self.model.generate(
                ids,
                attention_mask=mask,
                past_key_values=cache,
                logits_processor=LogitsProcessorList([sampler]),
                stopping_criteria=StoppingCriteriaList(criteria),
                generation_config=GenerationConfig(
                    do_sample=False,
                    max_new_tokens=longest + sampling.max_new_tokens - ids.shape[1],
                    eos_token_id=self.stops,
                    pad_token_id=pad,
                    return_dict_in_generate=True,
                ),
            )
            ids, cache = output.sequences, output.past_key_values
            mask = functional.pad(mask, (0, ids.shape[1] - mask.shape[1]), value=1)
            drawn = [_until_stop(row, self.stops) for row in ids[:, longest:].tolist()]
            done = torch.tensor(
                [r.finish_reason == "stop" or len(r.token_ids) == sampling.max_new_tokens for r in drawn]
            )
            for row, response, ended in zip(rows.tolist(), drawn, done.tolist(), strict=True):
                if ended:
                    responses[row] = response
            going = (~done).nonzero()[:, 0]
            rows, sampler.uniforms = rows[going], sampler.uniforms[going]
            if len(going):
                going = going.to(ids.device)
                ids, mask = ids[going], mask[going]
                cache.batch_select_indices(going)
        return [response for response in responses if response is not None]


def _until_stop(token_ids: list[int], stops: Sequence[int]) -> Response:
    for length, token in enumerate(token_ids, start=1):
        if token in stops:
            return Response(token_ids[:length], "stop")
    return Response(token_ids, "length")
