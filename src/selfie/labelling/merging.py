"""Several annotators' labels as one set of preferences: what they agree on, where they tie, where they differ."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import median
from typing import Any, NamedTuple

from selfie.evaluation.alpaca_files import DRAW
from selfie.evaluation.significance import Judged, agreement
from selfie.labelling.label_file import Label, Message, standing

Row = dict[str, Any]
RESAMPLES = 2000  # of the interval of κ


class Merged(NamedTuple):
    """What ``selfie labels`` writes and shows."""

    preferences: list[Row]
    """``prompt``, ``chosen``, ``rejected`` and their finish reasons."""
    ties: list[Row]
    """``prompt``, ``response_1``, ``response_2`` and their finish reasons."""
    disagreements: list[Row]
    """The same, and ``labels``: each annotator with the verdict. None of them is among the others."""
    annotators: list[Row]
    """``annotator``, ``labels``, ``ties``, ``skipped``, ``seconds`` (the median)."""
    agreement: list[Row]
    """For each two annotators: their names, ``n`` pairs that both labelled, ``agreement``, ``kappa``, ``kappa_ci``."""


def merge(labels: Mapping[str, Sequence[Label]], seed: int) -> Merged:
    """Takes what every label of a pair says, and keeps pairs aside of which two labels say different things.

    Args:
        labels: annotator → all lines of the file.
        seed: of the resamples for κ's interval.
    """
    given = {annotator: standing(lines) for annotator, lines in labels.items()}
    by_pair: dict[str, list[tuple[str, Label]]] = defaultdict(list)
    for annotator, own in given.items():
        for label in own:
            if label.verdict != "skip":
                by_pair[label.pair].append((annotator, label))
    merged = Merged([], [], [], [_counts(annotator, own) for annotator, own in given.items()], [])
    for said in by_pair.values():
        first = said[0][1]
        verdicts = {_winner(label) for _, label in said}
        if len(verdicts) > 1:
            merged.disagreements.append({**_pair(first), "labels": [_said(first, *entry) for entry in said]})
        elif verdicts == {None}:
            merged.ties.append(_pair(first))
        else:
            merged.preferences.append(_preference(first))
    merged.agreement.extend(_agreements(given, seed))
    return merged


def _agreements(given: Mapping[str, Sequence[Label]], seed: int) -> list[Row]:
    """Cohen's κ of each two annotators who labelled a pair in common."""
    judged = {annotator: _judged(own) for annotator, own in given.items()}
    rows = []
    for one, other in combinations(judged, 2):
        if judged[one].keys() & judged[other].keys():
            measured = agreement(judged[one], judged[other], RESAMPLES, seed)
            rows.append({"annotators": [one, other], **measured})
    return rows


def _judged(labels: Sequence[Label]) -> Judged:
    """Pair → preference, of the two responses in alphabetical order; without pairs that were labelled in two ways."""
    verdicts: dict[str, set[float]] = defaultdict(set)
    for label in labels:
        if label.verdict != "skip":
            winner = _winner(label)
            first = min(label.response_1, label.response_2)
            verdicts[label.pair].add(DRAW if winner is None else 1.0 if winner == first else 2.0)
    return {(pair,): next(iter(said)) for pair, said in verdicts.items() if len(said) == 1}


def _winner(label: Label) -> str | None:
    """The better response's text (two proposals may give the same responses in another order); None for a tie."""
    if label.verdict in ("response_1", "response_2"):
        return label.response_1 if label.verdict == "response_1" else label.response_2
    return None


def _said(shown: Label, annotator: str, label: Label) -> Row:
    """What an annotator said, by the names that the responses have in the row that is shown."""
    names = {shown.response_1: "response_1", shown.response_2: "response_2", None: "tie"}
    return {"annotator": annotator, "verdict": names[_winner(label)]}


def _counts(annotator: str, labels: Sequence[Label]) -> Row:
    verdicts = [label.verdict for label in labels]
    return {
        "annotator": annotator,
        "labels": sum(verdict != "skip" for verdict in verdicts),
        "ties": verdicts.count("tie"),
        "skipped": verdicts.count("skip"),
        "seconds": median(label.seconds for label in labels) if labels else None,
    }


def _preference(label: Label) -> Row:
    chosen, rejected = label.response("response_1"), label.response("response_2")
    if label.verdict == "response_2":
        chosen, rejected = rejected, chosen
    return {
        "prompt": _prompt(label.messages),
        "chosen": chosen[0],
        "rejected": rejected[0],
        "chosen_finish_reason": chosen[1],
        "rejected_finish_reason": rejected[1],
    }


def _pair(label: Label) -> Row:
    names = ("response_1", "response_2", "response_1_finish_reason", "response_2_finish_reason")
    return {"prompt": _prompt(label.messages), **{name: getattr(label, name) for name in names}}


def _prompt(messages: list[Message]) -> str | list[Message]:
    return messages if len(messages) > 1 else messages[0]["content"]
