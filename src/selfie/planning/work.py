"""What a step computes, and how many FLOPs that is. Pure arithmetic.

A weight is two FLOPs a token (one multiplication, one addition): N weights are 2·N forward, and 6·N with the backward
pass (Kaplan et al., arXiv 2001.08361, Section 2.1). Attention adds 4 · width a layer and pair of tokens of which one
sees the other: two for the score, two for the weighted value.
"""

from dataclasses import dataclass
from typing import Literal

from selfie.planning.model_shape import ModelShape

TRAINED, FROZEN, REFERENCE = 3, 2, 1
"""Passes of a training: forward and backward; the same through frozen weights, which need no gradients of their own
(4·N); the reference's forward pass."""

Kind = Literal["sampling", "scoring", "training", "asking"]


@dataclass(frozen=True)
class Work:
    """Responses that a step draws, scores, trains on or asks about; tokens are means a response."""

    kind: Kind
    rows: float
    """Responses, each as often as it is computed: by every model, in every epoch."""
    prompt: float
    response: float
    arithmetic: str = "float32"
    sharing: float = 1
    """Responses that share the computation of their prompt; 2 in training, a pair."""
    passes: float = 1
    """In forward passes."""
    models: int = 1
    """That are loaded: one after the other, but in training at once."""
    longest: int = 0
    """The token limit of a response."""
    batch_tokens: int = 1
    batch_size: int = 1
    """Pairs of an optimiser step."""
    engine: str = ""
    lora_rank: int = 0
    packed: bool = False
    """Whether the weights beside adapters are in 4 bits."""
    small_moments: bool = False
    """Whether AdamW's moments are in 8 bits."""
    checkpointing: bool = False
    """Whether each layer is computed again in the backward pass, so that only its input is kept."""
    pace: float = 0.0
    """Seconds a question."""
    alone: bool = False
    """Whether one device does all of it, however many there are."""

    @property
    def tokens(self) -> float:
        """That are computed: a prompt counts once for the responses that share it."""
        return self.rows * (self.prompt / self.sharing + self.response)

    @property
    def steps(self) -> float:
        """Of the optimiser."""
        return max(1.0, self.rows / 2 / self.batch_size)

    @property
    def batch(self) -> float:
        """Tokens of training's largest micro-batch: the budget, or the longest pair, or a step that has fewer."""
        longest = self.prompt + 2 * self.longest
        return max(longest, min(self.batch_tokens, self.batch_size * (self.prompt + 2 * self.response)))

    def flops(self, shape: ModelShape) -> float:
        """All passes of all rows."""
        if self.kind == "asking":
            return 0.0
        answered = self.sharing * self.response
        pairs = shared_pairs(self.prompt, self.response, self.sharing)
        forward = forward_flops(shape, self.prompt + answered, answered, pairs)
        return self.passes * self.rows / self.sharing * forward


def forward_flops(shape: ModelShape, tokens: float, answered: float, pairs: float) -> float:
    """One forward pass.

    Args:
        shape: the model's.
        tokens: that go through the layers.
        answered: positions with logits.
        pairs: of tokens of which one sees the other.
    """
    return 2 * (shape.body * tokens + shape.head * answered) + 4 * shape.attention_width * shape.layers * pairs


def shared_pairs(prompt: float, response: float, responses: float) -> float:
    """Pairs of tokens that attention computes of a prompt and its responses, which see it and not each other."""
    return prompt * (prompt + 1) / 2 + responses * (response * prompt + response * (response + 1) / 2)
