"""What an engine is: token ids in, token ids and finish reasons out, one seed per sample."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import Arithmetic


@dataclass(frozen=True)
class Request:
    """One sample to draw: the rendered prompt's token ids and the sample's own seed."""

    prompt_ids: list[int]
    seed: int


@dataclass(frozen=True)
class Response:
    """Sampled token ids, with the end-of-sequence token if the response ended by itself (``stop``)."""

    token_ids: list[int]
    finish_reason: Literal["stop", "length"]


@dataclass(frozen=True)
class Sampling:
    """Temperature, nucleus mass and the longest response in tokens."""

    temperature: float
    top_p: float
    max_new_tokens: int


class Engine(Protocol):
    """Draws samples from one checkpoint, each from its own seed.

    The same list of requests gives the same responses. In another batch the same request can round differently, bf16
    being what it is, and once in a while pick another token.
    """

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """One response a request, in order."""
        ...


class OpenEngine(Protocol):
    """Opens an engine from outside the package, called without names of arguments; a class whose objects are both."""

    def __call__(
        self, checkpoint: Checkpoint, batch_tokens: int, max_length: int, arithmetic: Arithmetic, /
    ) -> AbstractContextManager[Engine]:
        """Loads the checkpoint on entry, frees its memory on exit.

        Args:
            checkpoint: the model to sample from.
            batch_tokens: tokens (rows × longest row) to hold at once.
            max_length: tokens of prompt and response together.
            arithmetic: the model's.
        """
        ...
