"""From prompts to rows of sampled responses."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets
from transformers import PreTrainedTokenizerBase

from selfie.errors import DataError
from selfie.execution.map_shards import map_shards
from selfie.generation.engine import Engine, Request, Sampling
from selfie.generation.engine_choice import open_engine
from selfie.models.chat_template import as_text, render
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import Arithmetic
from selfie.runtime.random_seeds import derive_seed
from selfie.storage.shards import Compute, Shards

logger = logging.getLogger(__name__)


def sample_responses(
    checkpoint: Checkpoint,
    prompts: Dataset,
    samples: int,
    sampling: Sampling,
    *,
    engine: str,
    batch_tokens: int,
    max_length: int,
    purpose: str,
    seed: int,
    shards: Shards | None = None,
    arithmetic: Arithmetic = Arithmetic.FLOAT32,
) -> Dataset:
    """Draws ``samples`` responses a prompt; the same prompt, purpose and seed always give the same ones.

    Args:
        checkpoint: the model to sample from.
        prompts: rows with ``prompt_id`` and ``messages``.
        samples: responses a prompt.
        sampling: temperature, top-p, longest response.
        engine: the parameter ``generation.engine``.
        batch_tokens: the engine's budget; vLLM has its own.
        max_length: tokens of prompt and response together; prompts that leave no room are left out and counted.
        purpose: what the samples are for (an iteration, the evaluation): part of their seeds.
        seed: the run's.
        shards: where finished shards of responses are kept until all are there; without, all is done in one piece.
        arithmetic: of the model.

    Returns:
        Rows, a prompt's samples together: ``prompt_id``, ``messages``, ``prompt`` (their text), ``prompt_ids``,
        ``sample``, ``response``, ``response_ids``, ``finish_reason``.

    Raises:
        DataError: no prompt fits.
    """
    fitting = fitting_prompts(checkpoint.load_tokenizer(), prompts, max_length - sampling.max_new_tokens)
    tokens = samples * len(fitting) * sampling.max_new_tokens
    opening = partial(open_engine, engine, checkpoint, batch_tokens, max_length, tokens, arithmetic)
    sampler = partial(_open_sampler, opening, checkpoint, prompts, fitting, samples, sampling, purpose, seed)
    return map_shards(sampler, shards, samples * len(fitting))


@contextmanager
def _open_sampler(
    opening: Callable[[], AbstractContextManager[Engine]],
    checkpoint: Checkpoint,
    prompts: Dataset,
    fitting: np.ndarray,
    samples: int,
    sampling: Sampling,
    purpose: str,
    seed: int,
) -> Iterator[Compute]:
    tokenizer = checkpoint.load_tokenizer()
    with opening() as engine:

        def draw(part: range) -> Dataset:
            rows = list(_unanswered(tokenizer, prompts, fitting, part, samples))
            seeds = (derive_seed(seed, purpose, row["prompt_id"], row["sample"]) for row in rows)
            requests = [Request(row["prompt_ids"], own) for row, own in zip(rows, seeds, strict=True)]
            responses = engine.generate(requests, sampling)
            # What ends a response is no part of its text, even where the tokenizer takes it for a word.
            said = [r.token_ids[: len(r.token_ids) - (r.finish_reason == "stop")] for r in responses]
            texts = tokenizer.batch_decode(said, skip_special_tokens=True)
            for row, text, response in zip(rows, texts, responses, strict=True):
                row |= {"response": text, "response_ids": response.token_ids, "finish_reason": response.finish_reason}
            return Dataset.from_list(rows)

        yield draw


def fitting_prompts(tokenizer: PreTrainedTokenizerBase, prompts: Dataset, longest: int) -> np.ndarray:
    """Positions of the prompts of at most ``longest`` tokens; the others are counted in the log.

    Raises:
        DataError: no prompt fits.
    """
    fitting = np.flatnonzero([len(render(tokenizer, messages)) <= longest for messages in prompts["messages"]])
    if len(fitting) < len(prompts):
        left_out = len(prompts) - len(fitting)
        logger.warning("%d of %d prompts are longer than max_length allows and left out", left_out, len(prompts))
    if not len(fitting):
        raise DataError("prompts", "every prompt is longer than max_length allows", "raise the parameter max_length")
    return fitting


def beside_one_another(parts: dict[str, Dataset]) -> Dataset:
    """One table of several models' responses, a prompt's together; ``source`` names the model, ``sample`` counts on.

    Args:
        parts: name → what :func:`sample_responses` gave for the same prompts.
    """
    prompts = len({*next(iter(parts.values()))["prompt_id"]})
    named, rows = [], []
    done = 0
    for source, part in parts.items():
        places = done + np.arange(len(part)).reshape(prompts, -1)
        count = places.shape[1]
        samples = np.tile(done // prompts + np.arange(count), prompts)
        numbered = part.remove_columns("sample").add_column("sample", samples)
        named.append(numbered.add_column("source", [source] * len(part)))
        rows.append(places)
        done += len(part)
    # The order comes last: a column that is added to rows in another order would be cached among the shards' files.
    return concatenate_datasets(named).select(np.hstack(rows).ravel())


def sampled_by(responses: Dataset, source: str) -> Dataset:
    """The responses of one of the models."""
    return responses.select(np.flatnonzero(np.array(responses["source"][:]) == source))


def _unanswered(
    tokenizer: PreTrainedTokenizerBase, prompts: Dataset, fitting: np.ndarray, part: range, samples: int
) -> Iterator[dict[str, Any]]:
    """The rows of these numbers, without their responses."""
    for number, drawn in groupby(part, key=lambda row: row // samples):
        prompt = prompts[int(fitting[number])]
        head = {
            "prompt_id": prompt["prompt_id"],
            "messages": prompt["messages"],
            "prompt": as_text(prompt["messages"]),
            "prompt_ids": render(tokenizer, prompt["messages"]),
        }
        for row in drawn:
            yield {**head, "sample": row % samples}
