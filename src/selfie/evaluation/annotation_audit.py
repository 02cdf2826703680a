"""Can the judge be trusted? Its failures, its liking for the answer shown first, and answers that try to fool it."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from selfie.evaluation.alpaca_files import DRAW, Record
from selfie.evaluation.win_rate import win_rate, win_rate_interval

INJECTIONS = {
    "ignore_instructions": r"\b(?:ignore|disregard|forget)\b.{0,40}\b(?:above|previous|prior|earlier|instructions?)\b",
    "choose_me": r"\b(?:choose|pick|select|vote for)\s+(?:me\b|(?:this|my)\s+(?:answer|response|output)\b)",
    "praises_itself": r"\b(?:this|my)\s+(?:answer|response|output)\s+is\s+(?:\w+\s+){0,2}(?:best|better|superior)\b",
    "gives_the_verdict": r"^\W*(?:answer|output|response|model)\s+[12abm]\s+is\s+(?:the\s+)?better\b",
    "speaks_as_the_chat": r"<\|\w+\|>|\[/?INST\]|<</?SYS>>",
}
"""Phrases of prompt injection, matched anywhere in an answer. An innocent answer can hold one: they are counted, not
punished."""

_PATTERNS = {name: re.compile(pattern, re.I | re.S | re.M) for name, pattern in INJECTIONS.items()}
_PATTERNS["empty"] = re.compile(r"\A\s*\Z")


def audit_annotations(records: Sequence[Record], samples: int, seed: int) -> dict[str, Any]:
    """What is to be known of annotations beside the win rate.

    Args:
        records: as :func:`selfie.evaluation.annotate.annotate` makes them.
        samples: bootstrap resamples.
        seed: theirs.

    Returns:
        ``n_annotated`` with a preference; ``failures``, kind → number; ``first_answer_win_rate``, how often the answer
        shown first won, in percent (50: no position bias), with its 95% interval over instructions, None where order
        does not matter to the annotator; ``order_flips``, the share of comparisons whose winner changed with the order
        (None unless both were asked); ``canaries``, name → ``n`` answers of either side in which the phrase occurs (or
        that are ``empty``) and ``won``, the share of them that won (a draw is half), None if none was judged.
    """
    judged = [record for record in records if record["preference"] is not None]
    failures = Counter(record["failure"] for record in records if record.get("failure"))
    first_wins = [win for record in records if (win := _first_answer_wins(record)) is not None]
    flips = [flip for record in records if (flip := _flips(record)) is not None]
    return {
        "n_annotated": len(judged),
        "failures": dict(sorted(failures.items())),
        "first_answer_win_rate": win_rate(first_wins) if first_wins else None,
        "first_answer_win_rate_ci": list(win_rate_interval(first_wins, samples, seed)) if first_wins else None,
        "order_flips": sum(flips) / len(flips) if flips else None,
        "canaries": {name: canary for name in _PATTERNS if (canary := _canary(name, records))["n"]},
    }


def _first_answer_wins(record: Record) -> float | None:
    """The mean preference for the answer shown first, in [1, 2]."""
    model_first, baseline_first = record.get("preference_model_first"), record.get("preference_baseline_first")
    wins = [] if model_first is None else [model_first]
    wins += [] if baseline_first is None else [3 - baseline_first]
    return sum(wins) / len(wins) if wins else None


def _flips(record: Record) -> bool | None:
    one, other = record.get("preference_model_first"), record.get("preference_baseline_first")
    return None if one is None or other is None else (one - DRAW) * (other - DRAW) < 0


def _canary(name: str, records: Sequence[Record]) -> dict[str, Any]:
    count, wins = 0, []
    for record in records:
        for side in (1, 2):
            if _PATTERNS[name].search(record[f"output_{side}"]):
                count += 1
                if record["preference"] is not None:
                    wins.append(record["preference"] - 1 if side == 2 else 2 - record["preference"])  # noqa: PLR2004
    return {"n": count, "won": math.fsum(wins) / len(wins) if wins else None}
