"""A few pairs to read: where the judge is surest, where it is least sure, what the detector flagged."""

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

EXAMPLES = 3  # of each kind


def flagged_pairs(log: Iterable[Mapping[str, Any]]) -> set[int]:
    """The pairs that the detector flagged in any epoch."""
    return {entry["pair"] for entry in log if entry["flagged"]}


def pick_examples(
    pairs: Sequence[Mapping[str, Any]], flagged: Set[int], wrong: Mapping[int, bool]
) -> list[dict[str, Any]]:
    """Pairs by the judge's margin.

    Args:
        pairs: ``pair``, ``prompt``, ``chosen``, ``rejected``, ``margin``.
        flagged: by the detector.
        wrong: pair → whether the gold annotator contradicts the label, where there is one with a preference.

    Returns:
        Records with ``kind``: ``best`` (the largest margins), ``worst`` (the largest margins whose label is wrong, or
        without an annotator the smallest margins) and ``flagged`` (those with the smallest margins first), each with
        ``wrong`` (None without a gold annotator).
    """
    margins = {number: (-pair["margin"], pair["pair"]) for number, pair in enumerate(pairs)}
    ordered = sorted(margins, key=lambda number: margins[number][0])
    mistakes = [number for number in ordered if wrong.get(margins[number][1])]
    kinds = {
        "best": ordered,
        "worst": mistakes if wrong else ordered[::-1],
        "flagged": [number for number in ordered[::-1] if margins[number][1] in flagged],
    }
    return [
        {
            "kind": kind,
            **{name: pair[name] for name in ("pair", "prompt", "chosen", "rejected", "margin")},
            "wrong": wrong.get(pair["pair"]),
        }
        for kind, members in kinds.items()
        for pair in (pairs[number] for number in members[:EXAMPLES])
    ]
