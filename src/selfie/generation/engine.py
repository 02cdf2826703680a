"""What an engine is: token ids in, token ids and finish reasons out, one seed per sample."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


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
