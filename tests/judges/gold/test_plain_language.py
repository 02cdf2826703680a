"""The demo's gold annotator cannot be fooled cheaply."""

import pytest
import textstat
from hypothesis import given
from hypothesis import strategies as st

from selfie.judges.gold.plain_language import plain_language

PLAIN = "You can wash the shirt in cold water. Hang it up to dry in the sun."
MORE = "A dog needs fresh water each day. Take it for a long walk at noon."
ACADEMIC = (
    "Garment preservation necessitates immersion at considerably reduced temperatures. "
    "Subsequent dehydration should preferably utilise natural illumination."
)


def test_a_plain_answer_scores_its_reading_ease():
    """Sixteen words in two whole sentences, no repetition: no guard takes anything."""
    assert plain_language(PLAIN) == pytest.approx(min(100.0, textstat.textstat.flesch_reading_ease(PLAIN)))
    assert plain_language(PLAIN) > 90


def test_plain_beats_academic():
    assert plain_language(PLAIN) > plain_language(ACADEMIC) + 50
    assert plain_language(ACADEMIC) >= 0.0


@pytest.mark.parametrize("text", ["", "   \n", "**", "- "])
def test_an_empty_answer_is_worth_nothing(text: str):
    assert plain_language(text) == 0.0


def test_one_word_answers():
    """ "Yes." is perfectly easy to read, but a tenth of a full answer and a quarter of a sentence: 100 / 40."""
    assert plain_language("Yes.") == pytest.approx(2.5)


def test_short_answers_count_by_their_words():
    """Five words of ten: half of a score of 100."""
    assert plain_language("You can wash it now.") == pytest.approx(50.0)


def test_fragments():
    """Twelve words in six sentences: two words a sentence, where four would do, leave half."""
    assert plain_language("Cold wash. Not hot. Hang up. Dry fast. Wear it. Be glad.") == pytest.approx(50.0, abs=0.1)


def test_missing_punctuation_costs_half():
    words = "you can wash the shirt in cold water and hang it up"
    assert plain_language(words) == pytest.approx(plain_language(f"{words}.") / 2)


def test_run_ons():
    """The same 44 easy words are harder to read in one sentence than in four."""
    parts = [
        "You can wash the shirt and hang it up",
        "then you put it on and go out to the shop and buy some milk",
        "and take it home to the dog who is in the garden",
        "and likes to drink it all day with a friend of his",
    ]
    assert plain_language(" ".join(parts) + ".") < plain_language(". ".join(parts) + ".") - 20


def test_repetition():
    """Said three times, 48 words have 16 different trigrams of 46, where seven in ten would do."""
    assert plain_language(" ".join([PLAIN] * 3)) == pytest.approx(plain_language(PLAIN) * 16 / 46 / 0.7)


def test_length_earns_nothing():
    """Twice as many sentences of the same kind lie between the two halves."""
    halves = plain_language(PLAIN), plain_language(MORE)
    together = plain_language(f"{PLAIN} {MORE}")
    assert min(halves) - 1 <= together <= max(halves) + 1


def test_lists_are_read_as_their_sentences():
    """Marks of lists are no words, and a numbered item is not two sentences."""
    sentences = ["You can wash the shirt in cold water.", "Hang it up to dry in the sun."]
    plain = plain_language(" ".join(sentences))
    for mark in ("- ", "* ", "• ", "1. ", "2) ", "## "):
        assert plain_language("\n".join(mark + sentence for sentence in sentences)) == pytest.approx(plain), mark


def test_emphasis_hides_no_repetition():
    """The same words in bold, in code or in italics are the same words."""
    marked = PLAIN.replace("You", "**You**").replace("shirt", "`shirt`").replace("dry", "_dry_")
    assert plain_language(f"{PLAIN} {marked} {marked}") == pytest.approx(plain_language(" ".join([PLAIN] * 3)))


@given(st.text(max_size=300))
def test_any_text_has_a_score_in_range(text: str):
    assert 0.0 <= plain_language(text) <= 100.0
