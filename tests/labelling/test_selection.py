"""Which prompts and pairs are proposed: cases worked out by hand."""

import numpy as np
import pytest

from selfie.labelling.selection import (
    disagreement,
    diverse_prompts,
    largest_of_each,
    random_prompts,
    smallest_margins,
    worth_a_label,
)

TOPICS = {
    "cooking": ["boil the potatoes", "boil potatoes slowly", "boiling the potatoes"],
    "stars": ["telescopes show galaxies", "a telescope and galaxies", "galaxies in telescopes"],
    "money": ["mortgage interest rates", "interest on a mortgage", "mortgages and interest"],
}


def test_random_prompts_are_the_seeds_and_no_more_than_there_are():
    chosen = random_prompts(100, 10, seed=1)
    assert chosen == random_prompts(100, 10, seed=1) != random_prompts(100, 10, seed=2)
    assert chosen == random_prompts(100, 100, seed=1)[:10]  # those that are drawn later change nothing
    assert len(set(chosen)) == 10
    assert sorted(random_prompts(3, 10, seed=1)) == [0, 1, 2]
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
    assert smallest_margins([0.5, -0.1, 0.1, 2.0, 0.0], 3).tolist() == [4, 1, 2]
    assert smallest_margins([0.5], 3).tolist() == [0]
    assert smallest_margins([], 3).tolist() == []


def test_two_responses_are_worth_a_label_where_they_differ_and_both_may_be_chosen():
    """They differ in more than white space, and not both are cut."""
    assert list(worth_a_label(["a", "a ", "\na", "b"], [True] * 4)) == [(0, 3), (1, 3), (2, 3)]
    assert list(worth_a_label(["a", "b", "c"], [True, False, True])) == [(0, 2)]
    assert list(worth_a_label(["a", "b"], [True, False])) == []
    assert list(worth_a_label(["a"], [True])) == []


def test_of_each_prompt_the_pair_of_the_largest_value():
    assert largest_of_each([0, 0, 2, 2, 5], np.array([-3.0, -1.0, 4.0, 4.0, 0.0])).tolist() == [1, 2, 4]
    assert largest_of_each([], np.array([])).tolist() == []


def test_judges_disagree_most_where_both_are_surest_of_opposite_labels():
    """Root mean squares by hand: √((9 + 16)/4) = 2.5 and √((64 + 36)/4) = 5, so units of 1.2, 1.6 and −1.6, 1.2.

    The first pair: opposite signs, and the less sure judge says 1.2. The second: the same sign, so −1.2.
    """
    found = disagreement(np.array([3.0, 4.0, 0.0, 0.0]), np.array([-8.0, 6.0, 0.0, 0.0]))
    assert found == pytest.approx([1.2, -1.2, 0.0, 0.0])


def test_disagreement_has_neither_sides_nor_scales():
    """Judges and responses may change places, a judge's rewards be in another unit; both of no opinion is no error."""
    first, second = np.array([1.0, -2.0, 0.5]), np.array([0.1, 0.3, -0.9])
    found = disagreement(first, second)
    assert [value > 0 for value in found] == [False, True, True]
    assert disagreement(second, first) == pytest.approx(found)
    assert disagreement(-first, -1000 * second) == pytest.approx(found)
    assert disagreement(first, np.zeros(3)).tolist() == [0.0, 0.0, 0.0]
    assert disagreement(np.array([]), np.array([])).tolist() == []
