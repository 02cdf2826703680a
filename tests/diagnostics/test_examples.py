"""Which pairs a person is shown."""

from selfie.diagnostics.examples import flagged_pairs, pick_examples


def pair(number: int, margin: float) -> dict:
    return {"pair": number, "prompt": "p", "chosen": "c", "rejected": "r", "margin": margin}


PAIRS = [pair(n, margin) for n, margin in enumerate([0.1, 0.9, 0.5, 0.7, 0.3])]


def shown(examples: list[dict], kind: str) -> list[int]:
    return [example["pair"] for example in examples if example["kind"] == kind]


def test_best_worst_and_flagged():
    """Worst are the surest of the wrong ones; of pair 4 it is not known."""
    wrong = {0: True, 1: False, 2: True, 3: False}
    examples = pick_examples(PAIRS, {0, 3}, wrong)
    assert shown(examples, "best") == [1, 3, 2]
    assert shown(examples, "worst") == [2, 0]
    assert shown(examples, "flagged") == [0, 3]
    assert [example["wrong"] for example in examples if example["kind"] == "best"] == [False, False, True]


def test_without_an_annotator_the_worst_are_the_least_sure():
    examples = pick_examples(PAIRS, set(), {})
    assert shown(examples, "worst") == [0, 4, 2]
    assert shown(examples, "flagged") == []
    assert {example["wrong"] for example in examples} == {None}


def test_flagged_in_any_epoch():
    log = [{"pair": 0, "flagged": False}, {"pair": 1, "flagged": True}, {"pair": 1, "flagged": False}]
    assert flagged_pairs(log) == {1}
