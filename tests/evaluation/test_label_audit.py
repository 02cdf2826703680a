"""Label accuracy and the detector's precision and recall, counted by hand."""

from typing import Any

from selfie.evaluation.label_audit import audit_labels


def value(prompt: str, response: str) -> float:
    return float(response)


def pair(number: int, chosen: int, rejected: int) -> dict[str, Any]:
    return {"pair": number, "prompt": "p", "chosen": str(chosen), "rejected": str(rejected)}


def entry(number: int, flagged: bool = False, trusted: bool = False) -> dict[str, Any]:
    return {"pair": number, "flagged": flagged, "trusted": trusted}


RIGHT, WRONG, DRAW = (2, 1), (1, 2), (3, 3)


def test_counts_by_hand():
    """Pairs 0–4 right, 5–7 wrong, 8 a draw; 0 and 5 fell into the detector's warm-up.

    Accuracy: 5 of the 8 that are no draw. Asked about 1–4, 6, 7 (base error 2/6), the detector flagged 1, 2 and 6:
    1 of 3 is wrong (precision), 1 of 2 wrong ones is found (recall). The flagged draw counts nowhere.
    """
    pairs = [pair(n, *kind) for n, kind in enumerate([RIGHT] * 5 + [WRONG] * 3 + [DRAW])]
    log = [entry(n, flagged=n in (1, 2, 6, 8), trusted=n in (0, 5)) for n in (8, 6, 4, 2, 0, 1, 3, 5, 7)]
    assert audit_labels(pairs, log, value) == {
        "label_accuracy": 5 / 8,
        "noise_precision": 1 / 3,
        "noise_recall": 1 / 2,
        "noise_base_error": 2 / 6,
    }


def test_a_perfect_detector():
    pairs = [pair(0, *RIGHT), pair(1, *WRONG), pair(2, *RIGHT), pair(3, *WRONG)]
    audit = audit_labels(pairs, [entry(n, flagged=n in (1, 3)) for n in range(4)], value)
    assert (audit["noise_precision"], audit["noise_recall"], audit["noise_base_error"]) == (1.0, 1.0, 0.5)


def test_every_epoch_is_asked_anew():
    """Pair 1 is wrong; flagged in one of two epochs, it is found half of the time."""
    pairs = [pair(0, *RIGHT), pair(1, *WRONG)]
    log = [entry(0), entry(1, flagged=True), entry(0), entry(1)]
    audit = audit_labels(pairs, log, value)
    assert (audit["noise_precision"], audit["noise_recall"], audit["noise_base_error"]) == (1.0, 0.5, 0.5)


def test_nothing_to_divide_by_is_none():
    """Nothing flagged, everything trusted, nothing but draws."""
    quiet = audit_labels([pair(0, *WRONG)], [entry(0)], value)
    assert quiet == {"label_accuracy": 0.0, "noise_precision": None, "noise_recall": 0.0, "noise_base_error": 1.0}
    trusted = audit_labels([pair(0, *RIGHT)], [entry(0, flagged=True, trusted=True)], value)
    assert trusted == {"label_accuracy": 1.0, "noise_precision": None, "noise_recall": None, "noise_base_error": None}
    assert set(audit_labels([pair(0, *DRAW)], [entry(0, flagged=True)], value).values()) == {None}
