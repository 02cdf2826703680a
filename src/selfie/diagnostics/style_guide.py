"""How many answers follow the whole style guide, and how many pass each check of it?"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from selfie.diagnostics.calibration import share_interval
from selfie.evaluation.alpaca_files import Record
from selfie.evaluation.annotate import match_answers
from selfie.evaluation.win_rate import mean_interval
from selfie.judges.gold import Scorer

Guide = Callable[[str, str], dict[str, bool]]
"""(prompt, response) → each check's name and whether the response passes it."""


def guide_of(scorer: Scorer | None) -> Guide | None:
    """The gold annotator's style guide; None where it has none, or where there is no annotator."""
    return getattr(scorer, "checks", None)


def style_guide_shares(
    outputs: Sequence[Record], guide: Guide, earlier: Mapping[str, Sequence[Record]], samples: int, seed: int
) -> dict[str, Any]:
    """Shares of a policy's answers, in [0, 1], and how they differ from other policies'.

    Args:
        outputs: the policy's answers, in AlpacaEval's format.
        guide: the style guide.
        earlier: name → another policy's answers to the same instructions.
        samples: of the bootstrap, which is over instructions.
        seed: of the bootstrap.

    Returns:
        ``share`` of the answers that pass all checks, with Wilson's 95% interval as ``ci``; ``checks``, each check's
        name → the share that passes it. For each of ``earlier`` ``change_from_NAME``, the share minus that policy's
        on the instructions that both answered, with its 95% paired bootstrap interval as ``change_from_NAME_ci``.
    """
    checks = [guide(record["instruction"], record["output"]) for record in outputs]
    followed = sum(all(passed.values()) for passed in checks)
    shares: dict[str, Any] = {
        "share": followed / len(checks),
        "ci": share_interval(followed, len(checks)),
        "checks": {name: float(np.mean([passed[name] for passed in checks])) for name in checks[0]},
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
