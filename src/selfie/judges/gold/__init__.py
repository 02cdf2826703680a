"""Gold annotators: functions that stand for the human's preferences."""

from collections.abc import Callable

from selfie.config.gold import INSTRUCTIONS, STYLE_GUIDE, SYNTHETIC, GoldParameters
from selfie.config.plug_ins import resolve
from selfie.judges.gold.instructions import Instructions
from selfie.judges.gold.style_guide import StyleGuide
from selfie.synthetic.language import gold_reward

Scorer = Callable[[str, str], float]
"""(prompt, response) → score; the higher one is preferred, equal scores are a draw."""


def gold_scorer(gold: GoldParameters) -> Scorer:
    """The scorer that the parameter ``gold`` names; the style guide's is a :class:`StyleGuide`."""
    if gold.annotator == STYLE_GUIDE:
        assert gold.checks is not None
        return StyleGuide(gold.checks, gold.guards)
    if gold.annotator == INSTRUCTIONS:
        return Instructions(gold.guards)
    return resolve(gold.annotator, {SYNTHETIC: gold_reward})
