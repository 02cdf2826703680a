"""The study's figures, from records made by hand."""

import numpy as np
import pytest

from benchmarks.method_comparison.results import COLUMNS, collect, differences, figure, interval, markdown, rows
from benchmarks.runs_over_seeds import seed_numbers


def policy(win_rate: float, gold: float, length: float, **labels: float | None) -> dict:
    nothing = {"label_accuracy": None, "noise_precision": None, "noise_base_error": None}
    return {"win_rate": win_rate, "gold_score": gold, "avg_length": length, **nothing, **labels}


def record(method: str, seed: int, *policies: dict) -> dict:
    return {"method": method, "seed": seed, "summary": {"iterations": list(policies)}}


INITIAL = policy(50.0, 0.1, 30.0)
RECORDS = [
    record(
        "spa",
        1,
        INITIAL,
        policy(56.0, 0.2, 31.0),
        policy(70.0, 0.3, 33.0, label_accuracy=0.6, noise_precision=0.5, noise_base_error=0.4),
        policy(90.0, 0.5, 36.0, label_accuracy=0.8, noise_precision=0.7, noise_base_error=0.2),
    ),
    record("seed_dpo", 1, INITIAL, policy(56.0, 0.2, 31.0)),
    record("seed_dpo", 0, INITIAL, policy(60.0, 0.3, 29.0)),
    record("initial", 0, INITIAL, policy(60.0, 0.3, 29.0)),
    record("initial", 1, INITIAL, policy(56.0, 0.2, 31.0)),
    record(
        "spa",
        0,
        INITIAL,
        policy(60.0, 0.3, 29.0),
        policy(61.0, 0.3, 30.0, label_accuracy=0.5, noise_precision=None, noise_base_error=0.5),
        policy(58.0, 0.25, 40.0, label_accuracy=0.4, noise_precision=0.9, noise_base_error=0.7),
    ),
]
METHODS = ["initial", "seed_dpo", "spa"]


@pytest.fixture
def results() -> dict:
    return collect(RECORDS, METHODS)


def test_one_entry_a_seed_in_the_order_of_seeds(results: dict):
    """Whatever order the runs ended in; the policy that counts is the last one, for ``initial`` the first."""
    assert results["seeds"] == [0, 1]
    assert list(results["methods"]) == METHODS
    assert results["methods"]["initial"]["win_rate"] == [50.0, 50.0]
    assert results["methods"]["initial"]["gold_reward"] == [0.1, 0.1]
    assert results["methods"]["seed_dpo"]["win_rate"] == [60.0, 56.0]
    assert results["methods"]["seed_dpo"]["label_accuracy"] == [[], []]
    assert results["methods"]["seed_dpo"]["noise_precision"] == [None, None]
    assert results["methods"]["spa"] == {
        "win_rate": [58.0, 90.0],
        "gold_reward": [0.25, 0.5],
        "label_accuracy": [[0.5, 0.4], [0.6, 0.8]],
        "noise_precision": [pytest.approx(0.9), pytest.approx(0.6)],
        "noise_base_error": [pytest.approx(0.6), pytest.approx(0.3)],
        "avg_length": [40.0, 36.0],
        "win_rate_by_iteration": [[60.0, 61.0, 58.0], [56.0, 70.0, 90.0]],
    }


def test_interval_covers_the_mean_and_stays_within_the_values():
    values = [97.0, 99.5, 100.0, 100.0, 12.0, 98.0, 99.0, 100.0]
    low, high = interval(values)
    assert min(values) <= low < np.mean(values) < high <= 100


def test_interval_by_hand():
    """Two seeds, 58 and 90: a quarter of the resamples is 58 twice, a quarter 90 twice."""
    assert interval([58.0, 90.0]) == (58.0, 90.0)
    assert interval([58.0]) == (58.0, 58.0)


def test_the_tables_cells(results: dict):
    """spa: one of two seeds ended below seed_dpo (58 < 60); precision and base error are means over seeds."""
    initial, seeded, spa = rows(results)
    assert all(len(cells) == len(COLUMNS) for cells in (initial, seeded, spa))
    assert initial == ["initial", "50.0 [50.0, 50.0]", "50.0", "0.10", "–", "–", "–", "30", "–"]
    assert seeded == ["seed_dpo", "58.0 [56.0, 60.0]", "56.0", "0.25", "–", "–", "–", "30", "0"]
    assert spa == ["spa", "74.0 [58.0, 90.0]", "58.0", "0.38", "0.550 0.600", "0.750", "0.450", "38", "1"]


def test_without_seed_dpo_nothing_is_compared_with_it():
    (spa,) = rows(collect(RECORDS, ["spa"]))
    assert spa[-1] == "–"


def test_the_page_has_a_line_a_method(results: dict):
    table, above = (part.splitlines() for part in markdown(results).split("\n\n"))
    assert len(table) == 2 + len(METHODS)
    assert {line.count("|") for line in table} == {len(COLUMNS) + 1}
    assert len(above) == 2 + len(METHODS) - 1


def test_differences_are_paired(results: dict):
    """spa ends at 58 and 90, seed_dpo at 60 and 56: −2 and 34, mean 16, resampled between them; no full_dpo."""
    seeded, spa = differences(results)
    assert seeded == ["seed_dpo", "–", "-16.0 [-34.0, +2.0]", "–"]
    assert spa == ["spa", "+16.0 [-2.0, +34.0]", "–", "–"]


def test_the_plot_shows_means_intervals_and_every_seed(results: dict):
    drawn = figure(results)
    (bars,) = (trace for trace in drawn.data if trace.type == "bar")
    assert list(bars.y) == [50.0, 58.0, 74.0]
    assert np.add(bars.y, bars.error_y.array).tolist() == pytest.approx(
        [interval(results["methods"][method]["win_rate"])[1] for method in METHODS]
    )
    dots = {trace.x[0]: list(trace.y) for trace in drawn.data if trace.type == "scatter" and trace.mode == "markers"}
    assert dots == {method: results["methods"][method]["win_rate"] for method in METHODS}
    curves = [trace for trace in drawn.data if trace.type == "scatter" and trace.mode != "markers"]
    assert [(list(curve.x), list(curve.y)) for curve in curves] == [
        ([0, 1, 2], [58.0, 65.5, 74.0]),
        ([1, 2], [pytest.approx(0.55), pytest.approx(0.6)]),
    ]


@pytest.mark.parametrize(("text", "numbers"), [("0-3", [0, 1, 2, 3]), ("7", [7]), ("1,3-4,9", [1, 3, 4, 9])])
def test_seeds_are_ranges_or_lists(text: str, numbers: list[int]):
    assert seed_numbers(text) == numbers
