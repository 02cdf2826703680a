"""FLOPs against numbers derived by hand."""

from dataclasses import replace

import pytest

from planning_shapes import TINY
from selfie.planning.work import FROZEN, REFERENCE, TRAINED, Work, forward_flops, shared_pairs

PLAIN = replace(TINY, head=0, attention_width=0)


def test_forward_is_two_and_training_six_a_weight_and_token():
    """Kaplan et al.: 800 weights, 10 rows of 3 + 2 tokens."""
    scored = Work("scoring", 10, 3, 2)
    assert scored.tokens == 50
    assert scored.flops(PLAIN) == 2 * 800 * 50
    assert replace(scored, kind="training", passes=TRAINED).flops(PLAIN) == 6 * 800 * 50
    assert replace(scored, kind="training", passes=FROZEN).flops(PLAIN) == 4 * 800 * 50


def test_pairs_of_tokens_that_see_each_other():
    """A prompt of 3: 1 + 2 + 3. Each response of 2: its tokens see the 3 and 1, then 2, of themselves."""
    assert shared_pairs(3, 2, 1) == 6 + (4 + 5)
    assert shared_pairs(3, 2, 2) == 6 + 2 * (4 + 5)
    assert shared_pairs(3, 2, 1) == 5 * 6 / 2  # one row of five


def test_the_attention_and_the_head_by_hand():
    """7 tokens, 4 answers, 24 pairs: 2·(800·7 + 100·4), and 4·8 a pair and layer of two."""
    assert forward_flops(TINY, 7, 4, 24) == 2 * (5600 + 400) + 4 * 8 * 2 * 24


def test_a_pair_shares_its_prompt_and_trains_with_a_reference():
    """One pair of 3 + 2·2 tokens, three passes of the policy and one of the reference."""
    pair = Work("training", 2, 3, 2, sharing=2, passes=TRAINED + REFERENCE)
    assert pair.tokens == 7
    assert pair.flops(TINY) == 4 * (2 * (5600 + 400) + 64 * 24)
    assert replace(pair, rows=20).flops(TINY) == pytest.approx(10 * pair.flops(TINY))


def test_a_micro_batch_is_the_budget_the_step_or_the_longest_pair():
    pair = Work("training", 64, 10, 20, sharing=2, longest=30, batch_tokens=200, batch_size=16)
    assert pair.steps == 2
    assert pair.batch == 200
    assert replace(pair, batch_tokens=10_000).batch == 16 * 50  # the whole step
    assert replace(pair, batch_tokens=20).batch == 10 + 2 * 30  # no pair is split


def test_questions_to_an_endpoint_are_not_computed_here():
    assert Work("asking", 10, 100, 1).flops(TINY) == 0
    assert Work("asking", 10, 100, 1).tokens == 1010
