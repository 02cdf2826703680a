"""How many answers follow the whole style guide, or obey their instruction, and how many pass each check of it?"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from selfie.diagnostics.calibration import share_interval
from selfie.evaluation.alpaca_files import Record
from selfie.evaluation.annotate import match_answers
from selfie.evaluation.win_rate import mean_interval
from selfie.judges.gold import Scorer

Guide = Callable[[str, str], dict[str, bool]]
"""(prompt, response) → the name of each check that applies and whether the response passes it."""
Part = Callable[[str], str]
"""prompt → the name of the part of the prompts that it belongs to."""


def guide_of(scorer: Scorer | None) -> Guide | None:
    """The gold annotator's style guide; None where it has none, or where there is no annotator."""
    return getattr(scorer, "checks", None)


def part_of(scorer: Scorer | None) -> Part | None:
    """How the gold annotator divides the prompts into parts to report one by one; None where it doesn't."""
    return getattr(scorer, "part", None)


def style_guide_shares(
    outputs: Sequence[Record],
    guide: Guide,
    earlier: Mapping[str, Sequence[Record]],
    samples: int,
    seed: int,
    part: Part | None = None,
) -> dict[str, Any]:
    """Shares of a policy's answers, in [0, 1], and how they differ from other policies'.

    Args:
        outputs: the policy's answers, in AlpacaEval's format.
        guide: the style guide.
        earlier: name → another policy's answers to the same instructions.
        samples: of the bootstrap, which is over instructions.
        seed: of the bootstrap.
        part: divides the instructions.

    Returns:
        ``share`` of the answers that pass all checks, with Wilson's 95% interval as ``ci``; ``checks``, each check's
        name → the share that passes it of the answers to which it applies. For each of ``earlier``
        ``change_from_NAME``, the share minus that policy's on the instructions that both answered, with its 95% paired
        bootstrap interval as ``change_from_NAME_ci``. With ``part`` also ``parts``: name → all of this for the
        instructions of that part.
    """
    shares = _shares(outputs, guide, earlier, samples, seed)
    if part is not None:
        names = sorted({part(record["instruction"]) for record in outputs})
        shares["parts"] = {
            name: _shares(
                _within(name, part, outputs),
                guide,
                {other: _within(name, part, records) for other, records in earlier.items()},
                samples,
                seed,
            )
            for name in names
        }
    return shares


def _within(name: str, part: Part, records: Sequence[Record]) -> list[Record]:
    return [record for record in records if part(record["instruction"]) == name]


def _shares(
    outputs: Sequence[Record], guide: Guide, earlier: Mapping[str, Sequence[Record]], samples: int, seed: int
) -> dict[str, Any]:
    answers = [guide(record["instruction"], record["output"]) for record in outputs]
    followed = sum(all(passed.values()) for passed in answers)
    by_check: dict[str, list[bool]] = {}
    for passed in answers:
        for name, passes in passed.items():
            by_check.setdefault(name, []).append(passes)
    shares: dict[str, Any] = {
        "share": followed / len(answers),
        "ci": share_interval(followed, len(answers)),
        "checks": {name: float(np.mean(passes)) for name, passes in by_check.items()},
    }
    for name, others in earlier.items():
        changes = [
            _follows(guide, ours) - _follows(guide, theirs) for _, theirs, ours in match_answers(outputs, others)
        ]
        shares[f"change_from_{name}"] = float(np.mean(changes))
        shares[f"change_from_{name}_ci"] = list(mean_interval(changes, samples, seed))
    return shares


def _follows(guide: Guide, record: Record) -> int:
    return int(all(guide(record["instruction"], record["output"]).values()))
