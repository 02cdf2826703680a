"""Which answers the report leads with, and which it hides for reading blind: drawn by the run's seed, not chosen."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from selfie.runtime.random_seeds import derive_seed

LEAD = 3
BLIND = 20


def draw_answers(answers: Sequence[dict[str, Any]], seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Answers of the initial model and of a policy to the same questions; none is drawn twice.

    Args:
        answers: of one policy, as :func:`selfie.reporting.sections.section_of` gives them.
        seed: the run's.

    Returns:
        At most 3 to show as they are, and at most 20 to read blind: each ``instruction``, ``texts`` (two, in random
        order), ``sides`` (who wrote each, ``initial`` or ``policy``), ``follows`` (whether each follows the whole style
        guide; None where there is none).
    """
    rng = np.random.default_rng(derive_seed(seed, "report"))
    drawn = [answers[number] for number in rng.permutation(len(answers))[: LEAD + BLIND]]
    return drawn[:LEAD], [_hide(answer, bool(rng.integers(2))) for answer in drawn[LEAD:]]


def _hide(answer: dict[str, Any], swapped: bool) -> dict[str, Any]:
    sides = ["policy", "initial"] if swapped else ["initial", "policy"]
    checks = [answer.get(f"{side}_checks") for side in sides]
    return {
        "instruction": answer["instruction"],
        "texts": [answer[side] for side in sides],
        "sides": sides,
        "follows": [None if passed is None else all(passed.values()) for passed in checks],
    }
