"""The demo's style guide: what a real answer beats, each check alone, and what the guide cannot see."""

import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from selfie.config.gold import CheckParameters, GoldParameters, GuardParameters
from selfie.judges.gold import gold_scorer
from selfie.judges.gold.style_guide import CHECKS, GUARDS, StyleGuide
from selfie.judges.gold.style_guide.text import Answer, content_words, sentences_of, words_of

CONFIGURED = yaml.safe_load((Path(__file__).parents[3] / "conf/base/parameters_gold.yml").read_text())["gold"]
GOLD = GoldParameters.model_validate(CONFIGURED)
GUIDE = gold_scorer(GOLD)
REAL = {
    "What makes a volcano erupt?": "A volcano erupts when hot melted rock rises from deep below and the gas in it "
    "pushes through the crust. The pressure then throws ash and lava into the air.",
    "How do bees turn nectar into honey?": "Bees carry nectar to the hive in a special stomach and pass it from mouth "
    "to mouth. They fan it with their wings until most of its water is gone and thick honey remains.",
    "Why does a candle flame go out when you cover it with a jar?": "The flame needs oxygen to burn, and the jar holds "
    "only a little. Once the candle has used it up, it goes out.",
    "How do I clean a bathroom mirror without leaving streaks?": "Wipe the mirror with a soft cloth, warm water and a "
    "few drops of vinegar. Then dry the glass at once with newspaper, e.g. an old one.",
    "What is the best way to store an opened piece of cheddar?": "Wrap the cheddar loosely in baking paper so that it "
    "can breathe, and keep it in the warmest part of the fridge.",
    "Is a short nap after lunch a good idea?": "Yes, a nap of twenty minutes lifts your mood for the afternoon, but a "
    "longer one after lunch may leave you sleepy and spoil the night.",
}
QUESTIONS = list(REAL)
WORSE = {
    "empty": lambda prompt, answer: "",
    "white space": lambda prompt, answer: " \n ",
    "signs": lambda prompt, answer: "... !!! ???",
    "the prompt": lambda prompt, answer: prompt,
    "the prompt as a statement": lambda prompt, answer: prompt.replace("?", "."),
    "the prompt again and again": lambda prompt, answer: f"{prompt.replace('?', '.')} " * 3,
    "I don't know": lambda prompt, answer: "I don't know.",
    "I don't know, at length": lambda prompt, answer: f"I’m sorry, but I do not know much about this. {answer}",
    "another prompt's answer": lambda prompt, answer: REAL[QUESTIONS[QUESTIONS.index(prompt) - 1]],
    "doubled": lambda prompt, answer: f"{answer} {answer}",
    "doubled in other type": lambda prompt, answer: f"{answer} {answer.upper()}",
    "cut": lambda prompt, answer: answer.rsplit(" ", 3)[0],
    "trailing off": lambda prompt, answer: answer.rstrip(".") + "...",
    "ending with an article": lambda prompt, answer: answer.rstrip(".") + " and the.",
    "filler before": lambda prompt, answer: f"Great question! {answer}",
    "filler behind": lambda prompt, answer: f"{answer} I hope this helps!",
    "a question back": lambda prompt, answer: f"{answer} Shall I go on?",
    "padding": lambda prompt, answer: f"{answer} There is a lot to say. It depends on the case. Each case is new.",
    "one word": lambda prompt, answer: "Yes.",
    "a heading": lambda prompt, answer: f"# Answer\n\n{answer}",
    "bold type": lambda prompt, answer: answer.replace(" ", " **", 1).replace(" ", "** ", 2),
    "bullets": lambda prompt, answer: "\n".join(f"- {part}" for part in sentences_of(answer)),
    "numbers": lambda prompt, answer: "\n".join(f"1. {part}" for part in sentences_of(answer)),
    "one word repeated": lambda prompt, answer: answer.split()[1] + " very" * 20 + ".",
    "small words only": lambda prompt, answer: "It is what it is, and that is how it was for all of them.",
    "no capitals": lambda prompt, answer: answer.lower(),
}


def passed(name: str, response: str, prompt: str = QUESTIONS[0], **bounds: Any) -> bool:
    """One check or guard alone, with the bounds of ``conf/base`` but for those that are given."""
    group, model = ("checks", CheckParameters) if name in CHECKS else ("guards", GuardParameters)
    rules = model.model_validate({name: {**CONFIGURED[group][name], **bounds}})
    return (CHECKS | GUARDS)[name](Answer(prompt, response), getattr(rules, name))


@pytest.mark.parametrize("prompt", REAL)
def test_a_real_answer_follows_the_whole_guide(prompt: str):
    assert GUIDE.checks(prompt, REAL[prompt]) == dict.fromkeys(CONFIGURED["checks"], True)
    assert GUIDE(prompt, REAL[prompt]) == 1.0


@pytest.mark.parametrize("prompt", REAL)
@pytest.mark.parametrize("case", WORSE)
def test_a_real_answer_beats(case: str, prompt: str):
    assert GUIDE(prompt, WORSE[case](prompt, REAL[prompt])) < GUIDE(prompt, REAL[prompt])


@pytest.mark.parametrize("prompt", REAL)
def test_a_real_answer_beats_its_words_shuffled(prompt: str):
    """With their capitals and points: each of a hundred."""
    words = REAL[prompt].split()
    for seed in range(100):
        mixed = random.Random(seed).sample(words, len(words))
        assert GUIDE(prompt, " ".join(mixed)) < 1.0, " ".join(mixed)


def test_most_shuffled_answers_are_garble_even_with_capital_and_point_in_place():
    """The guide knows no grammar: some orders of small words it cannot tell from a sentence's."""
    caught = 0
    for seed, answer in enumerate(list(REAL.values()) * 50):
        mixed = [word.strip(".,").lower() for word in answer.split()]
        random.Random(seed).shuffle(mixed)
        caught += not passed("garble", f"{' '.join(mixed)}.".capitalize())
    assert 0.5 < caught / (50 * len(REAL)) < 1.0


def test_a_false_answer_in_good_style_is_not_seen():
    assert (
        GUIDE(QUESTIONS[0], "A volcano erupts when tiny blue dragons below the mountain light their morning fire.") == 1
    )


@pytest.mark.parametrize(
    ("case", "prompt", "failed"),
    [
        ("cut", QUESTIONS[0], {"finished_sentence"}),
        ("another prompt's answer", QUESTIONS[1], {"on_topic"}),
        ("filler before", QUESTIONS[2], {"no_filler"}),
        ("a question back", QUESTIONS[0], {"no_filler"}),
        ("bullets", QUESTIONS[0], {"plain_prose"}),
        ("one word", QUESTIONS[5], set(CHECKS)),
        ("the prompt", QUESTIONS[5], set(CHECKS)),
    ],
)
def test_which_checks_fail(case: str, prompt: str, failed: set[str]):
    """Those that name the fault; none is passed where a guard fails."""
    checks = GUIDE.checks(prompt, WORSE[case](prompt, REAL[prompt]))
    assert {name for name, right in checks.items() if not right} == failed
    assert GUIDE(prompt, WORSE[case](prompt, REAL[prompt])) == pytest.approx(1 - len(failed) / 7)


@pytest.mark.parametrize("end", [".", "!", '."', ".)", ".”"])
def test_finished(end: str):
    assert passed("finished_sentence", f"It rains{end}")


@pytest.mark.parametrize(
    "text", ["It rains", "It rains,", "It rains...", "It rains…", "It rains and.", "It rains, e.g.", "The a.", ".", ""]
)
def test_unfinished(text: str):
    assert not passed("finished_sentence", text)


def test_words_are_counted_with_both_ends_included():
    assert [passed("word_count", "word " * n, least=2, most=3) for n in (1, 2, 3, 4)] == [False, True, True, False]
    assert words_of("Don’t use 3.5 well-known A4's.") == ["don't", "use", "3.5", "well-known", "a4's"]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("One. Two! Three?", 3),
        ("Keep it at 3.5 degrees, e.g. in the U.S. or in Dr. Smith's cellar.", 1),
        ('He said "Stop!" and left.', 1),
        ("Wait... and see.", 1),
        ("Fruit, nuts, etc. are fine. Eat them", 2),
        ("...", 0),
    ],
)
def test_sentences(text: str, count: int):
    assert len(sentences_of(text)) == count
    assert passed("sentence_count", text, least=count, most=max(1, count))


@pytest.mark.parametrize(
    "text",
    [
        "- one",
        "• one",
        "1. one\n2. two",
        "a) one",
        "(1) one",
        "# Title",
        "A *star*",
        "`code`",
        "One.\n\nTwo.",
        "Do this:",
        "A:\nB.",
    ],
)
def test_what_is_no_plain_prose(text: str):
    assert not passed("plain_prose", text)


def test_plain_prose_has_dashes_colons_and_numbers():
    assert passed("plain_prose", "At 10:30 – or later - take 2. It is simple: eat. 3 are enough.")
    assert passed("plain_prose", "One.\n\nTwo.", most_paragraphs=2)


def test_filler_is_found_whatever_its_case_and_punctuation():
    assert not passed("no_filler", "SURE - it works.")
    assert not passed("no_filler", "It works, so let me know!")
    assert passed("no_filler", "Surely it works, as a lettuce me knows."), "whole words only"
    assert passed("no_filler", "It works?", most_questions=1)


def test_the_topic_is_the_questions_content_words():
    """Volcano and erupt; a plural's or a verb's s is no difference."""
    assert content_words("What makes a volcano erupt?") == {"volcano", "erupt"}
    assert content_words("Volcanoes erupt, cities and classes don't; the cat's buses.") >= {"volcano", "erupt", "city"}
    assert passed("on_topic", "Volcanoes are hot.")
    assert not passed("on_topic", "Volcanoes are hot.", least_share=0.6)
    assert not passed("on_topic", "What makes mountains hot?")
    assert passed("on_topic", "Anything.", prompt="Why?"), "without content words it can't be missed"


def test_own_content_is_what_the_question_lacks():
    assert passed("own_content", "Pressure, gas, ash, rock, heat: volcano.")
    assert not passed("own_content", "Pressure, gas, ash, rock: volcano, volcanoes, rocks.")


def test_the_share_of_checks_is_the_score():
    """Left-out checks do not count, and a guide without guards gives points to an echo."""
    prompt = QUESTIONS[0]
    two = {name: CONFIGURED["checks"][name] for name in ("finished_sentence", "no_filler")}
    guide = StyleGuide(CheckParameters.model_validate(two), GuardParameters())
    assert guide.checks(prompt, prompt) == {"finished_sentence": True, "no_filler": False}
    assert guide(prompt, prompt) == 0.5


@given(st.text(max_size=200), st.text(max_size=300))
def test_any_text_has_a_score_in_range(prompt: str, response: str):
    assert 0.0 <= GUIDE(prompt, response) <= 1.0
