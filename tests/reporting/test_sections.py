"""What of a policy reaches the report."""

import math
from itertools import pairwise

import pytest
from plotly.graph_objects import Figure

from selfie.reporting.label_figures import lengths_figure, reliability_figure
from selfie.reporting.sections import section_of


def annotation(preference: float | None, number: int = 0) -> dict:
    return {"instruction": f"i{number}", "output_1": "initial's", "output_2": "policy's", "preference": preference}


@pytest.mark.parametrize(
    ("preference", "winner"),
    [
        (1.0, "initial"),
        (1.2, "initial"),
        (1.5, "draw"),
        (1.7, "policy"),
        (2.0, "policy"),
        (None, "unjudged"),
        (-1, "unjudged"),
        (math.nan, "unjudged"),
    ],
)
def test_who_won(preference, winner):
    (answer,) = section_of([], [], [annotation(preference)], [], {})["answers"]
    assert answer == {"instruction": "i0", "initial": "initial's", "policy": "policy's", "winner": winner}


def test_answers_that_nobody_judged_are_matched_by_instruction_and_order():
    def record(instruction: str, output: str) -> dict:
        return {"instruction": instruction, "output": output}

    baseline = [record("twice", "first"), record("once", "other"), record("twice", "second")]
    outputs = [record("twice", "a"), record("alone", "b"), record("twice", "c")]
    answers = section_of(outputs, baseline, [], [], {})["answers"]
    assert [(answer["initial"], answer["policy"]) for answer in answers] == [("first", "a"), ("second", "c")]


def test_many_answers_are_thinned_evenly():
    section = section_of([], [], [annotation(2.0, number) for number in range(805)], [], {})
    numbers = [int(answer["instruction"][1:]) for answer in section["answers"]]
    assert section["n_answers"] == 805
    assert len(numbers) <= 200
    assert {b - a for a, b in pairwise(numbers)} == {5}
    assert numbers[-1] == 800


def test_checks_of_both_sides():
    def guide(instruction: str, answer: str) -> dict[str, bool]:
        return {"asked": instruction == "i0", "own": answer == "policy's"}

    (answer,) = section_of([], [], [annotation(2.0)], [], {}, guide)["answers"]
    assert answer["initial_checks"] == {"asked": True, "own": False}
    assert answer["policy_checks"] == {"asked": True, "own": True}


def test_figures_without_data_are_left_out():
    figures = {"reliability": reliability_figure([]), "lengths": lengths_figure([1], [2]), "empty": Figure()}
    assert set(section_of([], [], [], [], figures)["figures"]) == {"lengths"}
