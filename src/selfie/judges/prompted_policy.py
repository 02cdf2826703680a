"""LLM-as-judge without a sampled word: the verdict's probability, read from the next-token distribution.

The model is shown both responses and asked which one is better; P(first is better) is its probability of the first
verdict token against the second one's. Every pair is asked in both orders and averaged, because models favour a
position (Zheng et al., "Judging LLM-as-a-Judge", arXiv 2306.05685, Section 3.3).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from selfie.errors import ConfigurationError
from selfie.execution.map_shards import map_shards
from selfie.models.batching import token_batches, with_oom_backoff
from selfie.models.chat_template import render
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import Arithmetic
from selfie.preference.token_log_probs import Head
from selfie.runtime.memory import free_memory
from selfie.scoring.log_probs import response_hidden
from selfie.scoring.packed_rows import Row, stack
from selfie.storage.shards import Compute, Shards


@dataclass(frozen=True)
class VerdictPrompt:
    """How the question is put.

    Args:
        template: text with ``{prompt}``, ``{response_1}`` and ``{response_2}``; it becomes the user's turn.
        first: what the model answers where the first response is better.
        second: what it answers where the second one is.
    """

    template: str
    first: str
    second: str

    def fill(self, prompt: str, response_1: str, response_2: str) -> str:
        """The question about one pair; braces in the texts stay what they are."""
        parts = {"prompt": prompt, "response_1": response_1, "response_2": response_2}
        return re.sub(r"\{(prompt|response_1|response_2)\}", lambda match: parts[match[1]], self.template)

    def token_ids(self, tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
        """The first token of each verdict.

        Raises:
            ConfigurationError: both begin with the same token, or one has none.
        """
        first, second = (
            tokenizer(verdict, add_special_tokens=False)["input_ids"][:1] for verdict in (self.first, self.second)
        )
        if first == second or not first or not second:
            raise ConfigurationError(
                "judging.question.verdicts",
                f"{self.first!r} and {self.second!r} do not begin with different tokens",
                "choose others",
            )
        return first[0], second[0]


def verdict_probabilities(
    checkpoint: Checkpoint,
    prompts: Sequence[str],
    responses_1: Sequence[str],
    responses_2: Sequence[str],
    question: VerdictPrompt,
    batch_tokens: int,
    shards: Shards | None = None,
    arithmetic: Arithmetic = Arithmetic.FLOAT32,
) -> Tensor:
    """P(response 1 is better), shape [pairs, 2]: as shown, and with the responses swapped; average them for a verdict.

    Args:
        checkpoint: the judge; its memory is freed before the function returns.
        prompts: the pairs' prompts; a dataset's columns are read a shard at a time.
        responses_1: one response a prompt.
        responses_2: the other.
        question: the judge's prompt and verdicts.
        batch_tokens: tokens (rows × longest row) of one forward pass.
        shards: where finished shards of verdicts are kept until all are there; without, all is done in one piece.
        arithmetic: the judge's.
    """
    judge = partial(open_llm_judge, checkpoint, question, batch_tokens, arithmetic)
    asker = partial(_open_asker, judge, question, prompts, responses_1, responses_2)
    asked = map_shards(asker, shards, 2 * len(prompts))
    log_odds = asked.with_format("torch", dtype=torch.float64)["log_odds"][:]
    straight, swapped = torch.sigmoid(log_odds).chunk(2)
    return torch.stack([straight, 1 - swapped], dim=1)


@contextmanager
def _open_asker(
    judge: Callable[[], AbstractContextManager[Callable[[Sequence[str]], list[float]]]],
    question: VerdictPrompt,
    prompts: Sequence[str],
    responses_1: Sequence[str],
    responses_2: Sequence[str],
) -> Iterator[Compute]:
    """All pairs as they are, then all of them swapped."""
    rows = len(prompts)

    def text(row: int) -> str:
        number, (first, second) = row % rows, (responses_1, responses_2) if row < rows else (responses_2, responses_1)
        return question.fill(prompts[number], first[number], second[number])

    with judge() as ask:
        yield lambda part: Dataset.from_dict({"log_odds": ask([*map(text, part)])})


@contextmanager
def open_llm_judge(
    checkpoint: Checkpoint,
    question: VerdictPrompt,
    batch_tokens: int,
    arithmetic: Arithmetic = Arithmetic.FLOAT32,
) -> Iterator[Callable[[Sequence[str]], list[float]]]:
    """Opens a model that is prompted for verdicts: loaded for the first question, its memory freed at the end.

    Yields:
        A function from texts, each a user's turn, to log P(first verdict) − log P(second) as the next token.
    """
    tokenizer = checkpoint.load_tokenizer()
    verdicts = question.token_ids(tokenizer)
    load = cache(lambda: checkpoint.load_model(arithmetic.dtype))

    def ask(texts: Sequence[str]) -> list[float]:
        asked = [render(tokenizer, [{"role": "user", "content": text}]) for text in texts]
        return _log_odds(load(), asked, verdicts, batch_tokens).tolist()

    try:
        with arithmetic.products():
            yield ask
    finally:
        load.cache_clear()
        free_memory()


@torch.inference_mode()
def _log_odds(
    model: PreTrainedModel, asked: Sequence[list[int]], verdicts: tuple[int, int], batch_tokens: int
) -> Tensor:
    """Log-prob of the first verdict minus the second's as the next token, shape [rows]."""
    log_odds = torch.empty(len(asked), dtype=torch.float64)
    # The two verdicts' rows alone, in fp32: bf16 logits of near ties would all round to a draw.
    head = Head.of(model)
    rows = list(verdicts)
    bias = None if head.bias is None else head.bias[rows].float()
    head = replace(head, weight=head.weight[rows].float(), bias=bias)

    def ask(batch: list[int]) -> list[float]:
        # What predicts the one token of a verdict is all that is read: which one stands there doesn't matter.
        hidden = response_hidden(model, stack([Row(asked[i], [verdicts[:1]], [i]) for i in batch], False, model.device))
        logits = head.logits(hidden)
        return (logits[:, 0] - logits[:, 1]).tolist()

    for batch in token_batches([len(row) for row in asked], batch_tokens):
        log_odds[batch] = torch.tensor(with_oom_backoff(ask, batch), dtype=torch.float64)
    return log_odds
