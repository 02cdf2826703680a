"""Pairwise annotations: who is output 1, what a draw is, and which answers are compared."""

from selfie.evaluation.annotate import annotate


def by_length(instruction: str, output: str) -> float:
    """An annotator that likes long answers."""
    return float(len(output))


def records(generator: str, **outputs: str) -> list[dict[str, str]]:
    return [{"instruction": i, "output": o, "generator": generator} for i, o in outputs.items()]


def test_preferences_by_hand():
    """The model's answer to a is longer (2), to b shorter (1), to c as long (1.5)."""
    annotations = annotate(
        records("policy_1", a="long answer", b="no", c="same"),
        records("initial", c="size", b="a lot of words", a="short"),
        by_length,
        "length",
    )
    assert [(row["instruction"], row["preference"]) for row in annotations] == [("a", 2.0), ("b", 1.0), ("c", 1.5)]
    assert annotations[0] == {
        "instruction": "a",
        "generator_1": "initial",
        "output_1": "short",
        "generator_2": "policy_1",
        "output_2": "long answer",
        "annotator": "length",
        "preference": 2.0,
        "score_1": 5.0,
        "score_2": 11.0,
    }


def test_the_annotator_sees_the_instruction():
    """An answer is scored for its own instruction: here, whether it repeats it."""
    (annotation,) = annotate(
        records("policy_1", sky="the sky"), records("initial", sky="the sea"), lambda i, o: float(i in o), "echo"
    )
    assert (annotation["score_2"], annotation["score_1"]) == (1.0, 0.0)


def test_instructions_of_one_side_are_left_out():
    annotations = annotate(records("p", a="x", b="y"), records("i", b="z", c="w"), by_length, "length")
    assert [row["instruction"] for row in annotations] == ["b"]


def test_equal_instructions_are_compared_in_their_order():
    """Two conversations may end with the same words: each answer belongs to its own."""
    ours = records("p", more="1") + records("p", more="22")
    theirs = records("i", more="333") + records("i", more="4444")
    annotations = annotate(ours, theirs, by_length, "length")
    assert [(row["output_2"], row["output_1"]) for row in annotations] == [("1", "333"), ("22", "4444")]
