"""How right are the self-made labels, and does the detector find the wrong ones? Needs a gold annotator."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from selfie.judges.gold import Scorer


def audit_labels(pairs: Iterable[dict[str, Any]], log: Iterable[dict[str, Any]], scorer: Scorer) -> dict[str, Any]:
    """Label accuracy and the detector's precision and recall, all as fractions.

    Args:
        pairs: ``pair``, ``prompt``, ``chosen``, ``rejected``.
        log: the training log: ``pair``, ``flagged``, ``trusted``.
        scorer: the gold annotator.

    Returns:
        ``label_accuracy`` over the pairs on which the annotator has a preference; ``noise_precision``, the share of
        flagged pairs that are wrong; ``noise_recall``, the share of wrong pairs that were flagged;
        ``noise_base_error``, the share of wrong pairs that a detector flagging at random would find. The last three
        are over the pairs the detector was asked about. None where there is nothing to divide by.
    """
    wrong = wrong_labels(pairs, scorer)
    asked = (entry for entry in log if not entry["trusted"] and entry["pair"] in wrong)
    count = Counter((wrong[entry["pair"]], entry["flagged"]) for entry in asked)
    caught, mistaken = count[True, True], count[True, True] + count[True, False]
    return {
        "label_accuracy": _share(sum(not value for value in wrong.values()), len(wrong)),
        "noise_precision": _share(caught, caught + count[False, True]),
        "noise_recall": _share(caught, mistaken),
        "noise_base_error": _share(mistaken, count.total()),
    }


def wrong_labels(pairs: Iterable[dict[str, Any]], scorer: Scorer) -> dict[int, bool]:
    """Pair → whether the annotator prefers the rejected response; pairs without a preference are left out."""
    wrong = {}
    for pair in pairs:
        chosen, rejected = scorer(pair["prompt"], pair["chosen"]), scorer(pair["prompt"], pair["rejected"])
        if chosen != rejected:
            wrong[pair["pair"]] = chosen < rejected
    return wrong


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
