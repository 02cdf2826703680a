"""Which prompts and pairs are proposed: cases worked out by hand."""

import pytest

from selfie.labelling.selection import diverse_prompts, first_two, random_prompts, smallest_margins

TOPICS = {
    "cooking": ["boil the potatoes", "boil potatoes slowly", "boiling the potatoes"],
    "stars": ["telescopes show galaxies", "a telescope and galaxies", "galaxies in telescopes"],
    "money": ["mortgage interest rates", "interest on a mortgage", "mortgages and interest"],
}


def test_random_prompts_are_the_seeds_and_no_more_than_there_are():
    chosen = random_prompts(100, 10, seed=1)
    assert chosen == sorted(set(chosen)) == random_prompts(100, 10, seed=1) != random_prompts(100, 10, seed=2)
    assert len(chosen) == 10
    assert random_prompts(3, 10, seed=1) == [0, 1, 2]
    assert random_prompts(3, 0, seed=1) == []


@pytest.mark.parametrize("seed", range(3))
def test_diverse_prompts_cover_every_topic(seed: int):
    texts = [text for topic in TOPICS.values() for text in topic]
    assert [number // 3 for number in diverse_prompts(texts, 3, seed)] == [0, 1, 2]
    assert diverse_prompts(texts, 3, seed) == diverse_prompts(texts, 3, seed)


def test_diverse_prompts_fill_the_budget_where_texts_are_alike():
    """Two different texts are two clusters; the third of the budget is drawn."""
    chosen = diverse_prompts(["sun"] * 5 + ["moon"], 3, seed=0)
    assert len(set(chosen)) == 3
    assert 5 in chosen
    assert diverse_prompts(["a", "b"], 5, seed=0) == [0, 1]
    assert len(diverse_prompts(["?", "!", "…", "大きさ", "大きい"], 2, seed=0)) == 2


def test_the_smallest_margins_come_first_whichever_their_sign():
    assert smallest_margins([0.5, -0.1, 0.1, 2.0, 0.0], 3) == [4, 1, 2]
    assert smallest_margins([0.5], 3) == [0]


def test_the_first_two_responses_differ_in_more_than_white_space():
    assert first_two(["a", "a ", "\na", "b", "c"]) == (0, 3)
    assert first_two(["a", "a"]) is None
