"""Rows on the disk against the list that they stand for; repeats and opposites against dictionaries."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from selfie.data.stored_rows import AT_ONCE, Row, StoredRows, opposites, repeats, without

ROWS = st.lists(st.fixed_dictionaries({"a": st.integers(-3, 1), "b": st.sampled_from("xyz")}), max_size=12)


def numbered(rows: list[Row]) -> list[Row]:
    return [{**row, "messages": [{"role": "user", "content": row["b"]}], "row": 7 + n} for n, row in enumerate(rows)]


@settings(max_examples=30, deadline=None)
@given(ROWS, st.data())
def test_they_are_the_list(rows: list[Row], data: st.DataObject):
    rows = numbered(rows)
    stored = StoredRows.of(iter(rows))
    assert (len(stored), list(stored), bool(stored)) == (len(rows), rows, bool(rows))
    places = data.draw(st.permutations(range(len(rows))))[: data.draw(st.integers(0, len(rows)))]
    some = stored.only(places)
    assert list(some) == [rows[place] for place in places] == [some[n] for n in range(len(some))]
    assert list(some[1:4]) == list(some)[1:4]
    assert some.numbers().tolist() == [row["row"] for row in some]
    assert some.as_dataset().to_list() == list(some)
    assert list(without(stored, {8, 9})) == [row for row in rows if row["row"] not in (8, 9)]


def test_more_rows_than_are_written_at_once():
    rows = numbered([{"a": n, "b": str(n)} for n in range(2 * AT_ONCE + 1)])
    stored = StoredRows.of(rows)
    assert list(stored) == rows
    assert StoredRows.of(rows).as_dataset()._fingerprint == stored.as_dataset()._fingerprint  # MLflow's digest
    assert StoredRows.of(rows[1:]).as_dataset()._fingerprint != stored.as_dataset()._fingerprint
    assert stored.as_dataset() is stored.only(np.arange(len(rows))).as_dataset()


@settings(max_examples=50, deadline=None)
@given(ROWS)
def test_repeats_and_opposites(rows: list[Row]):
    """-1 and -2 have the same hash: values decide."""
    assert hash((-1,)) == hash((-2,))
    first: dict[tuple, int] = {}
    expected = []
    for place, row in enumerate(rows):
        before = first.setdefault((row["a"],), place)
        expected += [(place, before)] * (before != place)
    rows = [{**row, "c": (row["a"] + 1) % 3 - 2} for row in rows]
    stored = StoredRows.of(numbered(rows))
    assert list(repeats(stored, ["a"])) == expected
    found = [(place, first[row["c"],]) for place, row in enumerate(rows) if (row["c"],) in first]
    assert list(opposites(stored, ["a"], ["c"])) == found
