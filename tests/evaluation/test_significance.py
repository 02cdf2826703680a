"""The paired test and the agreement of judges, against numbers worked out by hand."""

import gzip
import json
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from selfie.errors import DataError
from selfie.evaluation.agreement import main
from selfie.evaluation.significance import agreement, compare_win_rates, preferences_by

PREFERENCE = st.sampled_from([1.0, 1.25, 1.5, 2.0])


def judged(*preferences: float) -> dict[tuple[Any, ...], float]:
    return {(f"i{n}", 0): preference for n, preference in enumerate(preferences)}


def test_change_by_hand():
    """Of eight, six turn from loss to win and two stay: +75 points; 2 of the 2⁶ signs are as far from zero."""
    found = compare_win_rates(judged(*[2.0] * 6, 1.0, 2.0), judged(*[1.0] * 6, 1.0, 2.0), 500, 0)
    assert found["win_rate_change"] == 75.0
    assert found["win_rate_change_p"] == pytest.approx(2 / 64)
    low, high = found["win_rate_change_ci"]
    assert 25 <= low < 75 < high <= 100


def test_the_exact_null_distribution():
    """Every sign pattern of the changes, enumerated."""
    changes = np.array([0.5, -0.25, 1.0, 0.25, 0.75])
    later = judged(*(1.0 + np.maximum(changes, 0)))
    earlier = judged(*(1.0 + np.maximum(-changes, 0)))
    means = [abs((changes * signs).mean()) for signs in product([1, -1], repeat=5)]
    expected = np.mean([m >= abs(changes.mean()) - 1e-12 for m in means])
    assert compare_win_rates(later, earlier, 100, 0)["win_rate_change_p"] == pytest.approx(expected)


def test_pairing_sees_what_two_intervals_hide():
    """A policy that wins the same half and five more of 100: both intervals overlap widely, the change is sure."""
    earlier = judged(*[2.0] * 50, *[1.0] * 50)
    later = judged(*[2.0] * 58, *[1.0] * 42)
    found = compare_win_rates(later, earlier, 2000, 0)
    assert found["win_rate_change"] == pytest.approx(8)
    assert found["win_rate_change_p"] < 0.02
    assert found["win_rate_change_ci"][0] > 0


def test_under_the_null_small_p_values_are_rare():
    rng = np.random.default_rng(0)
    p_values = [
        compare_win_rates(judged(*rng.choice([1, 1.5, 2], 60)), judged(*rng.choice([1, 1.5, 2], 60)), 2, seed)[
            "win_rate_change_p"
        ]
        for seed in range(30)
    ]
    assert np.mean(np.array(p_values) < 0.05) < 0.2
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.15)


def test_only_common_instructions_count():
    later, earlier = judged(2.0, 1.0), {("i0", 0): 1.0, ("other", 0): 2.0}
    assert compare_win_rates(later, earlier, 10, 0) == {
        "win_rate_change": 100.0,
        "win_rate_change_ci": [100.0, 100.0],
        "win_rate_change_p": 1.0,
    }
    assert set(compare_win_rates(later, {}, 10, 0).values()) == {None}


def test_no_change_is_no_evidence():
    same = judged(2.0, 1.0, 1.5)
    assert compare_win_rates(same, same, 10, 0)["win_rate_change_p"] == 1.0


@settings(max_examples=15)
@given(st.lists(st.tuples(PREFERENCE, PREFERENCE), min_size=2, max_size=20), st.randoms())
def test_the_order_of_rows_never_matters(pairs: list[tuple[float, float]], random: Any):
    keys = [(f"i{n}", 0) for n in range(len(pairs))]
    later, earlier = ({k: p[side] for k, p in zip(keys, pairs, strict=True)} for side in (0, 1))
    shuffled = [{k: side[k] for k in random.sample(keys, len(keys))} for side in (later, earlier)]
    assert compare_win_rates(*shuffled, 50, 0) == compare_win_rates(later, earlier, 50, 0)
    assert agreement(*shuffled, 50, 0) == agreement(later, earlier, 50, 0)


@settings(max_examples=15)
@given(st.lists(st.tuples(PREFERENCE, PREFERENCE), min_size=2, max_size=20))
def test_the_test_is_symmetric(pairs: list[tuple[float, float]]):
    later, earlier = (judged(*(p[side] for p in pairs)) for side in (0, 1))
    one, other = compare_win_rates(later, earlier, 50, 0), compare_win_rates(earlier, later, 50, 0)
    assert one["win_rate_change"] == pytest.approx(-other["win_rate_change"])
    assert one["win_rate_change_p"] == pytest.approx(other["win_rate_change_p"], abs=0.02)


def test_kappa_by_hand():
    """20 of 30 alike, each verdict ten times with both: agreement by chance 1/3; κ = (2/3 − 1/3)/(1 − 1/3) = ½."""
    one = judged(*[1.0] * 10, *[1.5] * 10, *[2.0] * 10)
    other = judged(*[1.0] * 10, *[2.0] * 5, *[1.5] * 5, *[1.5] * 5, *[2.0] * 5)
    found = agreement(one, other, 1000, 0)
    assert (found["n"], found["agreement"]) == (30, pytest.approx(2 / 3))
    assert found["kappa"] == pytest.approx(0.5)
    low, high = found["kappa_ci"]
    assert 0.1 < low < 0.5 < high < 0.85


@given(st.lists(st.tuples(PREFERENCE, PREFERENCE), min_size=1, max_size=20))
def test_kappa_is_sklearns(pairs: list[tuple[float, float]]):
    one, other = ([int(np.sign(p[side] - 1.5)) for p in pairs] for side in (0, 1))
    with warnings.catch_warnings(action="ignore"):
        expected = cohen_kappa_score(one, other)
    found = agreement(judged(*(p[0] for p in pairs)), judged(*(p[1] for p in pairs)), 1, 0)["kappa"]
    assert found == (None if np.isnan(expected) else pytest.approx(expected))


def test_kappa_sees_the_side_alone():
    """A weighted judge and a discrete one agree if they prefer the same answer."""
    assert agreement(judged(1.9, 1.1, 1.5), judged(2.0, 1.0, 1.5), 10, 0)["kappa"] == 1.0
    assert agreement(judged(1.9, 1.1), judged(1.0, 2.0), 10, 0)["kappa"] == -1.0


def test_one_verdict_throughout_has_no_kappa():
    found = agreement(judged(2.0, 2.0), judged(2.0, 2.0), 10, 0)
    assert (found["agreement"], found["kappa"], found["kappa_ci"]) == (1.0, None, None)


def test_judges_of_different_answers_are_not_compared():
    with pytest.raises(DataError, match="no answer in common"):
        agreement(judged(2.0), {("other", 0): 1.0}, 10, 0)


def test_rows_without_a_preference_are_left_out_and_repetitions_kept_apart():
    rows = [{"instruction": "a", "preference": p} for p in (1.0, None, 2.0)] + [{"instruction": "b", "preference": 1.5}]
    assert preferences_by(rows, "instruction") == {("a", 0): 1.0, ("a", 2): 2.0, ("b", 0): 1.5}


def test_the_command(tmp_path: Path):
    def write(name: str, preferences: list[float | None]) -> str:
        rows = [
            {"instruction": f"i{n}", "output_2": "x", "preference": preference}
            for n, preference in enumerate(preferences)
        ]
        (tmp_path / name).write_bytes(gzip.compress(json.dumps(rows).encode()))
        return str(tmp_path / name)

    one, other = write("a.json.gz", [1.0, 2.0, 1.2, -1, 0]), write("b.json.gz", [1.4, 1.8, 2.0, 1.0, 1.5])
    result = CliRunner().invoke(main, [one, other, "--samples", "20"])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.output)
    assert printed["n"] == 4
    assert printed["agreement"] == 0.75
