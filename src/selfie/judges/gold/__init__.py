"""Gold annotators: functions that stand for the human's preferences."""

from collections.abc import Callable

from selfie.judges.gold.plain_language import plain_language

Scorer = Callable[[str, str], float]
"""(prompt, response) → score; the higher one is preferred, equal scores are a draw."""


def gold_scorer(name: str) -> Scorer:
    """The scorer that the parameter ``gold`` names."""
    if name == "world":
        from selfie.synthetic.language import gold_reward

        return gold_reward
    return lambda prompt, response: plain_language(response)
