"""The demo's gold annotator: a house style, as the share of its checks that an answer passes.

Offline there is no human and no GPT-4. So the demo prefers what a support team's style guide might ask for, and each
check is one that a reader can verify by eye. Which checks there are, and their bounds, is data:
``conf/base/parameters_gold.yml``, whose schema is :mod:`selfie.config.gold`.

That a program can tell whether an instruction was followed is IFEval's idea (Zhou et al., arXiv 2311.07911).

What it cannot see: whether an answer is true, whether it answers the question rather than shares its words, and
nonsense in well-formed sentences.
"""

from collections.abc import Callable
from typing import Any

from selfie.config.gold import CheckParameters, GuardParameters
from selfie.judges.gold.style_guide import checks
from selfie.judges.gold.style_guide.text import Answer

Check = Callable[[Answer, Any], bool]
"""(answer, its rule's bounds) → whether it passes."""
CHECKS: dict[str, Check] = {name: getattr(checks, name) for name in CheckParameters.model_fields}
GUARDS: dict[str, Check] = {name: getattr(checks, name) for name in GuardParameters.model_fields}
"""By the names that ``gold.checks`` and ``gold.guards`` have."""


class StyleGuide:
    """A scorer: the share of checks that an answer passes, in [0, 1]; equal shares are a draw."""

    def __init__(self, checks: CheckParameters, guards: GuardParameters):
        self._checks = {name: rule for name, rule in checks if rule is not None}
        self._guards = guards

    def __call__(self, prompt: str, response: str) -> float:
        """Checks passed / checks."""
        passed = self.checks(prompt, response)
        return sum(passed.values()) / len(passed)

    def checks(self, prompt: str, response: str) -> dict[str, bool]:
        """Each check's name → whether the answer passes it; none where a guard fails."""
        answer = Answer(prompt, response)
        sound = is_sound(answer, self._guards)
        return {name: sound and CHECKS[name](answer, rule) for name, rule in self._checks.items()}


def is_sound(answer: Answer, guards: GuardParameters) -> bool:
    """Whether the answer passes all guards."""
    return all(rule is None or GUARDS[name](answer, rule) for name, rule in guards)
