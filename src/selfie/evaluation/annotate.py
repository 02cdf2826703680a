"""Pairwise annotations in AlpacaEval's format."""

from collections import defaultdict
from typing import Any

from selfie.judges.gold import Scorer

Record = dict[str, Any]


def annotate(outputs: list[Record], baseline: list[Record], scorer: Scorer, annotator: str) -> list[Record]:
    """Each answer against the baseline's to the same instruction.

    Args:
        outputs: AlpacaEval model outputs (``instruction``, ``output``, ``generator``).
        baseline: the same of the baseline.
        scorer: the annotator.
        annotator: its name.

    Returns:
        AlpacaEval annotations: output 1 is the baseline's; ``preference`` is 1 if it is better, 2 if the model's is,
        1.5 for a draw. Instructions that only one side answered are left out; one that comes twice is matched in order.
    """
    answers: dict[str, list[Record]] = defaultdict(list)
    for record in baseline:
        answers[record["instruction"]].append(record)
    return [
        _annotation(record, answers[record["instruction"]].pop(0), scorer, annotator)
        for record in outputs
        if answers[record["instruction"]]
    ]


def _annotation(output: Record, baseline: Record, scorer: Scorer, annotator: str) -> Record:
    instruction = output["instruction"]
    ours, theirs = scorer(instruction, output["output"]), scorer(instruction, baseline["output"])
    return {
        "instruction": instruction,
        "generator_1": baseline["generator"],
        "output_1": baseline["output"],
        "generator_2": output["generator"],
        "output_2": output["output"],
        "annotator": annotator,
        "preference": 1.5 if ours == theirs else 2.0 if ours > theirs else 1.0,
        "score_1": theirs,
        "score_2": ours,
    }
