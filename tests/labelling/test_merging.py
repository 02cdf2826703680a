"""Annotators together: what they agree on becomes a preference, what they don't is kept aside."""

import json

import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from selfie.datasets import PreferenceDataset
from selfie.labelling.merging import merge


def test_one_annotators_labels(make_label):
    merged = merge({"ana": [make_label(0, "response_2"), make_label(1, "response_1"), make_label(2, "tie")]}, seed=0)
    chosen, conversation = merged.preferences
    assert chosen == {
        "prompt": "Question 0?",
        "chosen": "No 0,",
        "rejected": "Yes 0.",
        "chosen_finish_reason": "length",
        "rejected_finish_reason": "stop",
    }
    assert [message["role"] for message in conversation["prompt"]] == ["user", "assistant", "user"]
    assert [row["prompt"] for row in merged.ties] == ["Question 2?"]
    assert (merged.disagreements, merged.agreement) == ([], [])
    assert merged.annotators == [{"annotator": "ana", "labels": 3, "ties": 1, "skipped": 0, "seconds": 2.0}]


def test_who_skips_leaves_the_pair_to_the_others(make_label):
    merged = merge({"ana": [make_label(0, "skip"), make_label(1, "skip")], "ben": [make_label(0, "tie")]}, seed=0)
    assert [len(part) for part in merged[:3]] == [0, 1, 0]


@pytest.mark.parametrize("other", ["response_2", "tie"])
def test_a_pair_labelled_in_two_ways_is_kept_aside(make_label, other: str):
    """By two annotators, or twice by one."""
    two = {"ana": [make_label(0, "response_1")], "ben": [make_label(0, other)]}
    for labels in (two, {"ana": [*two["ana"], *two["ben"]]}):
        merged = merge(labels, seed=0)
        assert (merged.preferences, merged.ties) == ([], [])
        (row,) = merged.disagreements
        assert [said["verdict"] for said in row["labels"]] == ["response_1", other]
        assert [said["annotator"] for said in row["labels"]] == list(two if len(labels) == 2 else ("ana", "ana"))


def test_the_same_pair_in_another_order_is_the_same_pair(make_label):
    """Two proposals may give the same responses the other way round: the texts count, not the places."""
    turned = {"response_1": "No 0,", "response_2": "Yes 0."}
    same = merge({"ana": [make_label(0, "response_1")], "ben": [make_label(0, "response_2", **turned)]}, seed=0)
    assert [row["chosen"] for row in same.preferences] == ["Yes 0."]
    assert same.agreement[0]["agreement"] == 1.0
    opposite = merge({"ana": [make_label(0, "response_1")], "ben": [make_label(0, "response_1", **turned)]}, seed=0)
    assert [said["verdict"] for said in opposite.disagreements[0]["labels"]] == ["response_1", "response_2"]
    assert opposite.agreement[0]["agreement"] == 0.0


def test_kappa_is_cohens(make_label):
    """Against scikit-learn's, over the pairs that both labelled."""
    ours = ["response_1", "response_2", "tie", "response_1"]
    theirs = ["response_1", "tie", "tie", "response_2"]
    labels = {
        name: [make_label(number, verdict) for number, verdict in enumerate(own)]
        for name, own in (("ana", ours), ("ben", theirs), ("eva", ["skip"]))
    }
    (row,) = merge(labels, seed=0).agreement
    assert (row["annotators"], row["n"], row["agreement"]) == (["ana", "ben"], 4, 0.5)
    assert row["kappa"] == pytest.approx(cohen_kappa_score(ours, theirs))


def test_preferences_pass_data_validation(tmp_path, make_label):
    """As the catalog writes them: single prompts and conversations in one file."""
    merged = merge({"ana": [make_label(number, "response_1") for number in range(4)]}, seed=0)
    path = tmp_path / "preferences.jsonl"
    pd.DataFrame(merged.preferences).to_json(path, orient="records", lines=True, force_ascii=False)
    assert isinstance(json.loads(path.read_text().splitlines()[1])["prompt"], list)
    rows = PreferenceDataset(str(path)).load()
    assert rows["chosen"][:] == [f"Yes {number}." for number in range(4)]
    assert rows["rejected_finish_reason"][:] == ["length"] * 4
