"""From prompts to rows of sampled responses."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from datasets import Dataset

from selfie.chat import render
from selfie.checkpoints import Checkpoint
from selfie.datasets.shards import Shards
from selfie.errors import DataError
from selfie.generation.engine import Engine, Request, Sampling, open_engine
from selfie.randomness import derive_seed

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
) -> list[dict[str, Any]]:
    """Draws ``samples`` responses a prompt; the same prompt, purpose and seed always give the same ones.

    Args:
        checkpoint: the model that speaks.
        prompts: rows with ``prompt_id`` and ``messages``.
        samples: responses a prompt.
        sampling: temperature, top-p, longest response.
        engine: ``auto``, ``transformers`` or ``vllm``.
        batch_tokens: the transformers engine's budget.
        max_length: tokens of prompt and response together; prompts that leave no room are left out and counted.
        purpose: what the samples are for (an iteration, the evaluation): part of their seeds.
        seed: the run's.
        shards: where finished shards of responses are kept until all are there; without, all is done in one piece.

    Returns:
        Rows, a prompt's samples together: ``prompt_id``, ``prompt`` (the last turn's text), ``prompt_ids``,
        ``sample``, ``response``, ``response_ids``, ``finish_reason``.

    Raises:
        DataError: no prompt fits.
    """
    tokenizer = checkpoint.load_tokenizer()
    rows: list[dict[str, Any]] = []
    for prompt in prompts:
        prompt_ids = render(tokenizer, prompt["messages"])
        if len(prompt_ids) + sampling.max_new_tokens > max_length:
            continue
        head = {
            "prompt_id": prompt["prompt_id"],
            "prompt": prompt["messages"][-1]["content"],
            "prompt_ids": prompt_ids,
        }
        rows.extend({**head, "sample": sample} for sample in range(samples))
    if len(rows) < samples * len(prompts):
        left_out = len(prompts) - len(rows) // samples
        logger.warning("%d of %d prompts are longer than max_length allows and left out", left_out, len(prompts))
    if not rows:
        raise DataError("prompts", "every prompt is longer than max_length allows", "raise the parameter max_length")
    requests = [Request(row["prompt_ids"], derive_seed(seed, purpose, row["prompt_id"], row["sample"])) for row in rows]
    opened: list[Engine] = []
    with ExitStack() as stack:

        def draw(part: Sequence[Request]) -> list[dict[str, Any]]:
            if not opened:  # where every shard is there already, no model is loaded
                opened.append(stack.enter_context(open_engine(engine, checkpoint, batch_tokens, max_length)))
            return [asdict(response) for response in opened[0].generate(part, sampling)]

        responses = draw(requests) if shards is None else shards.map(draw, requests)
    texts = tokenizer.batch_decode([response["token_ids"] for response in responses], skip_special_tokens=True)
    return [
        {**row, "response": text, "response_ids": response["token_ids"], "finish_reason": response["finish_reason"]}
        for row, text, response in zip(rows, texts, responses, strict=True)
    ]
