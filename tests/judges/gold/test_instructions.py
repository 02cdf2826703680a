"""Exact instructions: each kind's right and wrong answers, the guards, and what a prompt must end with."""

import pytest
import yaml

from runs import PROJECT
from selfie.config.gold import GoldParameters
from selfie.errors import DataError
from selfie.judges.gold import gold_scorer
from selfie.judges.gold.instructions import KINDS, SEEN, UNSEEN, instruction_of

CONFIGURED = yaml.safe_load((PROJECT / "conf/base/parameters_gold.yml").read_text())["gold"]
SCORER = gold_scorer(GoldParameters.model_validate({**CONFIGURED, "annotator": "instructions"}))
QUESTION = "Why do cats purr?"
ONE = "Cats purr because small muscles in the throat move the air, and it calms them."
TWO = f"{ONE} Most people like the sound."
# kind → (what is asked, an answer that obeys, answers that don't)
ANSWERS = {
    "bullets": (
        "2",
        "Reasons:\n- Purring calms the cat.\n  -Kittens call their mother.",
        [
            TWO,
            "- Purring calms the cat.",
            "- Purring calms the cat.\n* Kittens call.",
            "1. Purring calms the cat.\n2. Kittens call their mother.",
        ],
    ),
    "numbered": (
        "2",
        "1. Purring calms the cat.\n2) Kittens call their mother.",
        [
            TWO,
            "1. Purring calms the cat.",
            "1. Purring calms the cat.\n3. Kittens call their mother.",
            "1. Purring calms the cat.\n2. Kittens call their mother.\n3. People like the warm sound.",
            "- Purring calms the cat.\n- Kittens call their mother.",
        ],
    ),
    "most_words": ("15", ONE, [TWO]),
    "sentences": ("2", TWO, [ONE, f"{TWO} It also heals bones."]),
    "begins": ("In short", f"In short, {ONE}", [ONE, f"{TWO} In short, that is all there is.", f"In shorts, {ONE}"]),
    "includes": ("Because", ONE, [ONE.replace("because", "since"), ONE.replace("because", "becauses")]),
    "no_commas": ("", ONE.replace(",", ""), [ONE]),
    "excludes": ("because", ONE.replace("because", "since"), [ONE]),
    "question": ("", "Cats purr since it calms their nerves. “Do you know another animal that purrs?”", [ONE]),
}


def prompt(kind: str, asked: str, number: int = 0) -> str:
    return f"{QUESTION} {KINDS[kind].write(number, asked)}"


def test_every_kind_has_answers_here():
    assert set(ANSWERS) == set(KINDS)
    assert len(SEEN) + len(UNSEEN) == len(KINDS)  # none is both


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_obeys_or_does_not(kind: str):
    asked, right, wrong = ANSWERS[kind]
    assert SCORER.checks(prompt(kind, asked), right) == {kind: True}
    assert SCORER(prompt(kind, asked), right) == 1.0
    for answer in wrong:
        assert SCORER.checks(prompt(kind, asked), answer) == {kind: False}, answer
        assert SCORER(prompt(kind, asked), answer) == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_no_answer_obeys_nothing(kind: str):
    """Whatever its form would be: empty, given up, the prompt again, one phrase again and again, signs."""
    asked, right, _ = ANSWERS[kind]
    asking = prompt(kind, asked)
    for answer in ("", " \n", f"I don't know. {right}", asking, f"{right}\n{right}\n{right}", "- ?\n- !"):
        assert SCORER(asking, answer) == 0.0, answer


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_of_the_prompt_says_what_is_asked(kind: str):
    """In each wording; another kind's instruction in the question itself is none."""
    asked = ANSWERS[kind][0]
    for number in range(len(KINDS[kind].wordings)):
        assert instruction_of(prompt(kind, asked, number)) == (kind, asked)
        assert instruction_of(f"Do not use any commas. {prompt(kind, asked, number)}\n") == (kind, asked)
    assert KINDS[kind].write(0, asked) == KINDS[kind].write(len(KINDS[kind].wordings), asked)


def test_kinds_are_reported_apart():
    assert {SCORER.part(prompt(kind, ANSWERS[kind][0])) for kind in SEEN} == {"seen_kinds"}
    assert {SCORER.part(prompt(kind, ANSWERS[kind][0])) for kind in UNSEEN} == {"unseen_kinds"}


@pytest.mark.parametrize("asking", [QUESTION, "", "Use at most ten words.", "Use at most 20 words. Thanks!"])
def test_a_prompt_without_an_instruction_is_refused(asking: str):
    with pytest.raises(DataError, match=r"(?s)ends with no instruction.*one of the wordings"):
        SCORER(asking, ONE)
