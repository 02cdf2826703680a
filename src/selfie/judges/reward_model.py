"""A sequence-classification model as judge: its one logit is the reward of a conversation."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from trl import RewardConfig, RewardTrainer

from selfie.config.training import RewardModelParameters
from selfie.errors import ModelError
from selfie.execution.map_shards import map_shards
from selfie.models.batching import with_oom_backoff
from selfie.models.chat_template import Message, render
from selfie.models.checkpoint import Checkpoint, compute_device
from selfie.models.precision import Arithmetic
from selfie.runtime.memory import free_memory
from selfie.storage.shards import Compute, Shards
from selfie.training.checkpointing import Guard
from selfie.training.trainer_settings import on_one_device, trainer_settings

Answered = tuple[list[Message], str]
"""A conversation that ends with the user's turn, and the answer to it."""


def reward_model_scores(
    checkpoint: Checkpoint,
    conversations: Sequence[list[Message]],
    responses: Sequence[str],
    batch_tokens: int,
    shards: Shards | None = None,
    arithmetic: Arithmetic = Arithmetic.FLOAT32,
) -> Tensor:
    """The reward of each response as the assistant's answer to its conversation, shape [rows].

    Args:
        checkpoint: any Hugging Face sequence-classification model with one label and a chat template.
        conversations: each ends with the user's turn, one a response; a dataset's columns are read a shard at a time.
        responses: the answers.
        batch_tokens: tokens of one forward pass.
        shards: where finished shards of rewards are kept until all are there; without, all is done in one piece.
        arithmetic: the model's.

    Raises:
        ModelError: the model has more than one label.
    """
    rater = partial(_open_rater, checkpoint, conversations, responses, batch_tokens, arithmetic)
    rewards = map_shards(rater, shards, len(responses))
    column: Tensor = rewards.with_format("torch", dtype=torch.float64)["reward"][:]
    return column


@contextmanager
def _open_rater(
    checkpoint: Checkpoint,
    conversations: Sequence[list[Message]],
    responses: Sequence[str],
    batch_tokens: int,
    arithmetic: Arithmetic,
) -> Iterator[Compute]:
    with open_reward_model(checkpoint, batch_tokens, arithmetic) as rate:

        def rate_part(part: range) -> Dataset:
            rows = slice(part.start, part.stop)
            return Dataset.from_dict({"reward": rate(list(zip(conversations[rows], responses[rows], strict=True)))})

        yield rate_part


@contextmanager
def open_reward_model(
    checkpoint: Checkpoint, batch_tokens: int, arithmetic: Arithmetic = Arithmetic.FLOAT32
) -> Iterator[Callable[[Sequence[Answered]], list[float]]]:
    """Opens a reward model: loaded for the first answer, its memory freed at the end.

    Yields:
        A function from (conversation, response) to rewards; it raises what :func:`reward_model_scores` does.
    """
    tokenizer = checkpoint.load_tokenizer()
    load = cache(lambda: _load_judge(checkpoint, arithmetic))

    def rate(answered: Sequence[Answered]) -> list[float]:
        rows = [
            render(tokenizer, [*before, _assistant(last)], add_generation_prompt=False) for before, last in answered
        ]
        return _rewards(load(), rows, batch_tokens).tolist()

    try:
        with arithmetic.products():
            yield rate
    finally:
        load.cache_clear()
        free_memory()


def _load_judge(checkpoint: Checkpoint, arithmetic: Arithmetic) -> PreTrainedModel:
    model = _load(checkpoint, arithmetic.dtype)
    if model.config.num_labels != 1:
        raise ModelError(
            checkpoint.source, f"a reward model has one label, this one has {model.config.num_labels}", "use another"
        )
    if model.config.get_text_config().pad_token_id is None:
        # transformers refuses batches without one; here no token is padding, and the last one is what it reads.
        model.config.get_text_config().pad_token_id = -1
    return model


@torch.inference_mode()
def _rewards(model: PreTrainedModel, rows: Sequence[list[int]], batch_tokens: int) -> Tensor:
    rewards = torch.empty(len(rows), dtype=torch.float64)

    def rate(batch: list[int]) -> list[float]:
        input_ids = torch.tensor([rows[i] for i in batch], device=model.device)
        logits: Tensor = model(input_ids=input_ids, attention_mask=torch.ones_like(input_ids)).logits
        return logits[:, 0].tolist()

    # Rows of one length together: no padding, after which models look for the last token in different ways.
    by_length = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for length, group in groupby(by_length, key=lambda i: len(rows[i])):
        for batch in torch.tensor(list(group)).split(max(1, batch_tokens // length)):
            rewards[batch] = torch.tensor(with_oom_backoff(rate, batch.tolist()), dtype=torch.float64)
    return rewards


def train_reward_model(
    start: Checkpoint,
    preferences: Dataset,
    parameters: RewardModelParameters,
    seed: int,
    workspace: Path,
    mixed: bool = False,
) -> Checkpoint:
    """A reward model from preference pairs: ``start`` with a one-label head, all weights free (TRL's trainer).

    Args:
        start: the causal model that the reward model grows from; its tokenizer stays.
        preferences: ``messages`` (the prompt), ``chosen``, ``rejected``.
        parameters: learning rate, epochs and batch.
        seed: of the head's initial weights and the order of the pairs.
        workspace: a folder for what training writes.
        mixed: whether matrix products are bf16's (autocast).
    """
    torch.manual_seed(seed % 2**32)
    tokenizer = start.load_tokenizer()
    model = _load(start, torch.float32, num_labels=1)
    model.config.pad_token_id = tokenizer.pad_token_id
    pairs = preferences.map(
        lambda row: {s: row["messages"] + [_assistant(row[s])] for s in ("chosen", "rejected")},
        remove_columns=preferences.column_names,
    )
    settings = trainer_settings(parameters, seed, workspace, mixed, parameters.micro_batch_size)
    trainer = RewardTrainer(
        model,
        args=on_one_device(RewardConfig(**settings, save_strategy="no")),
        train_dataset=pairs,
        processing_class=tokenizer,
        callbacks=[Guard()],
    )
    trainer.train()
    folder = workspace / "reward_model"
    trained: Any = trainer.accelerator.unwrap_model(trainer.model)
    trained.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Checkpoint(str(folder))


def _assistant(response: str) -> Message:
    return {"role": "assistant", "content": response}


def _load(checkpoint: Checkpoint, dtype: torch.dtype, **kwargs: int) -> PreTrainedModel:
    model = AutoModelForSequenceClassification.from_pretrained(
        checkpoint.source,
        revision=checkpoint.revision,
        dtype=dtype,
        use_safetensors=True,
        trust_remote_code=False,
        **kwargs,
    )
    ready: PreTrainedModel = model.eval().to(compute_device())
    return ready
