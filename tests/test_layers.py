"""The table of layers names what is there: a test that was renamed would silently fall back to the unit tests."""

from pathlib import Path

import pytest

from layers import LAYERS, layer_of


@pytest.mark.parametrize("entry", [entry for entries in LAYERS.values() for entry in entries])
def test_every_entry_names_a_file_or_a_test(entry: str):
    file, _, test = entry.partition("::")
    text = (Path(__file__).parent / file).read_text()
    assert f"def {test or 'test_'}" in text


def test_the_most_exact_entry_counts():
    assert layer_of("benchmarks/test_speed.py::test_both_sides_score_the_same") == "integration"
    assert layer_of("benchmarks/test_speed.py::test_every_part_runs_and_is_written") == "nightly"
    assert layer_of("config/test_methods.py::test_every_method[spa-base]") == "integration"
    assert layer_of("preference/test_losses.py::test_anything") == "unit"
