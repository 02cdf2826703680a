"""What the report shows of one policy: answers beside the initial model's, examples of pairs, figures."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from plotly.graph_objects import Figure

from selfie.evaluation.alpaca_files import DRAW, Record
from selfie.evaluation.annotate import match_answers

SHOWN_ANSWERS = 200


def section_of(
    outputs: list[Record],
    baseline: list[Record],
    annotations: list[Record],
    examples: list[dict[str, Any]],
    figures: Mapping[str, Figure],
    guide: Callable[[str, str], dict[str, bool]] | None = None,
) -> dict[str, Any]:
    """One namespace's part of the report, as plain JSON.

    Args:
        outputs: the policy's answers, in AlpacaEval's format.
        baseline: the initial model's.
        annotations: who won, in AlpacaEval's format; empty where there was no judge.
        examples: pairs, from :func:`selfie.diagnostics.examples.pick_examples`.
        figures: name → figure.
        guide: (instruction, answer) → the style guide's checks, and whether the answer passes each.

    Returns:
        ``answers``, at most 200, evenly spread: ``instruction``, ``initial``, ``policy``, ``winner``, and with a guide
        ``initial_checks`` and ``policy_checks``; ``n_answers`` (all there were), ``examples``, ``figures`` (those with
        data, as plotly's JSON).
    """
    answers = [_judged(record) for record in annotations] or _unjudged(outputs, baseline)
    step = max(1, -(-len(answers) // SHOWN_ANSWERS))
    return {
        "answers": [answer | _checks(answer, guide) for answer in answers[::step]],
        "n_answers": len(answers),
        "examples": examples,
        "figures": {name: json.loads(figure.to_json()) for name, figure in figures.items() if figure.data},
    }


def _checks(answer: dict[str, Any], guide: Callable[[str, str], dict[str, bool]] | None) -> dict[str, dict[str, bool]]:
    if guide is None:
        return {}
    return {f"{side}_checks": guide(answer["instruction"], answer[side]) for side in ("initial", "policy")}


def _judged(record: Record) -> dict[str, Any]:
    return {
        "instruction": record["instruction"],
        "initial": record["output_1"],
        "policy": record["output_2"],
        "winner": _winner(record["preference"]),
    }


def _winner(preference: float | None) -> str:
    if preference is None or not 1 <= preference <= 2:  # noqa: PLR2004 — AlpacaEval's scale
        return "unjudged"
    return "draw" if preference == DRAW else "policy" if preference > DRAW else "initial"


def _unjudged(outputs: list[Record], baseline: list[Record]) -> list[dict[str, Any]]:
    return [
        {
            "instruction": ours["instruction"],
            "initial": theirs["output"],
            "policy": ours["output"],
            "winner": "unjudged",
        }
        for _, theirs, ours in match_answers(outputs, baseline)
    ]
