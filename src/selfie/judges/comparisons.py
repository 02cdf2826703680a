"""Who compares two answers to an instruction: a gold scorer, a judge on this machine, a reward model, or an endpoint.

All stand behind :class:`Annotator`. The order in which the answers are shown is chosen elsewhere
(:mod:`selfie.evaluation.annotate`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from selfie.judges.base import Judge, Verdict, Verdicts
from selfie.judges.gold import Scorer
from selfie.models.chat_template import Message


@dataclass(frozen=True)
class Comparison:
    """Which of two answers is better?"""

    instruction: str
    first: str
    second: str
    messages: list[Message] | None = None
    """The conversation whose text the instruction is, where it has several turns."""


class Annotator(Judge[Comparison], Protocol):
    """Compares answers."""

    @property
    def depends_on_order(self) -> bool:
        """Whether the verdict can depend on which answer is shown first."""
        ...


def prefer_higher(first: float, second: float) -> float:
    """1 or 2, whichever scores higher; 1.5 for equal scores."""
    return 1.5 if first == second else 2.0 if second > first else 1.0


class ScorerAnnotator:
    """A scorer, such as the gold one that stands for the human. It costs nothing, so its verdicts are not kept."""

    identity = None
    depends_on_order = False

    def __init__(self, name: str, scorer: Scorer):
        self.name, self.scorer = name, scorer

    def judge(self, comparisons: Sequence[Comparison]) -> Verdicts:
        """The answer with the higher score wins."""
        for position, comparison in enumerate(comparisons):
            first, second = (
                self.scorer(comparison.instruction, answer) for answer in (comparison.first, comparison.second)
            )
            yield position, Verdict(prefer_higher(first, second), scores=(first, second))
