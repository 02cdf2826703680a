"""Diversity, counted by hand."""

import pytest

from selfie.diagnostics.diversity import distinct, repetition


def test_distinct_counts_over_all_texts():
    """the cat sat | The cat ran: 4 different words of 6, 3 different pairs of 4."""
    texts = ["the cat sat", "The cat ran"]
    assert distinct(texts, 1) == pytest.approx(4 / 6)
    assert distinct(texts, 2) == pytest.approx(3 / 4)
    assert distinct(["", "word"], 2) is None


def test_repetition_is_within_a_text():
    """a b a b a b: the 4-grams abab, baba, abab, one of three a repeat; between texts nothing repeats."""
    assert repetition(["a b a b a b"]) == pytest.approx(1 / 3)
    assert repetition(["a b c d", "a b c d"]) == 0
    assert repetition(["a b a b a b", "a b c d", "too short"]) == pytest.approx(1 / 6)
    assert repetition(["too short"]) is None
