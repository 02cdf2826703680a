"""What `selfie label` and `selfie labels` say where they can't go on, and what `selfie labels` shows."""

import json
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DataCatalog
from rich.console import Console

from selfie.app.labelling import export_labels, labels_summary, labels_table, merge_labels, open_server
from selfie.datasets import PreferenceDataset
from selfie.errors import ConfigurationError, DataError, StorageError
from selfie.labelling.label_file import LabelFile
from selfie.labelling.session import LabellingSession

PAIR = {"prompt": "Why?", "response_1": "So.", "response_2": "Thus."}


def catalog(folder: Path, **entries: dict[str, Any]) -> DataCatalog:
    """As in conf/base."""
    merged = {"type": "pandas.JSONDataset", "save_args": {"orient": "records", "lines": True}}
    parts = {"type": "selfie.datasets.CommittedDataset", "dataset": merged}
    own = {
        "pairs_to_label": {"type": "selfie.datasets.PairDataset", "filepath": str(folder / "pairs.jsonl")},
        "labels": {"type": "selfie.datasets.LabelsDataset", "filepath": str(folder / "labels")},
        "labelled_{part}": {**parts, "filepath": str(folder / "labels/merged/{part}.jsonl")},
    }
    return DataCatalog.from_config(own | entries)


def write(folder: Path, *rows: dict[str, Any]) -> None:
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))


def answer(folder: Path, annotator: str, *choices: str) -> None:
    """Answers the pairs in order, always about the same response, whichever is shown first."""
    rows, _ = catalog(folder).get("pairs_to_label").inspect()
    file = LabelFile(folder / "labels", annotator)
    session = LabellingSession(rows, file, file.open(), seed=0)
    for choice in choices:
        pair = session.state()["pair"]
        shown = [answer["text"] for answer in pair["answers"]]
        session.label(pair["id"], ("left", "right")[shown.index(choice)] if choice in shown else choice, 3.0)
    session.close()


def test_without_pairs_it_says_how_to_propose_some(tmp_path: Path):
    with pytest.raises(DataError, match=r"pairs\.jsonl: there are no pairs to label\n.*--pipelines propose_labels"):
        open_server(catalog(tmp_path), 0, "ana", 0)
    assert not any(tmp_path.iterdir())


def test_a_pair_that_cant_be_shown_is_named(tmp_path: Path):
    write(tmp_path, PAIR, {**PAIR, "response_2": " "}, PAIR)
    with pytest.raises(DataError, match=r"pairs\.jsonl, row 2: `response_2` is empty"):
        open_server(catalog(tmp_path), 0, "ana", 0)
    write(tmp_path, PAIR, PAIR)  # the same pair twice counts once
    server = open_server(catalog(tmp_path), 0, "ana", 0)
    assert server.session.state()["total"] == 1
    server.session.close()
    server.server_close()


@pytest.mark.parametrize(
    ("name", "entry", "words"),
    [
        ("pairs_to_label", {"type": "selfie.datasets.PreferenceDataset", "filepath": "a.jsonl"}, "no PairDataset"),
        ("labels", {"type": "selfie.datasets.LabelsDataset", "filepath": "s3://bucket/labels"}, "is not a folder"),
    ],
)
def test_a_catalog_that_cant_be_used_is_named(tmp_path: Path, name: str, entry: dict[str, Any], words: str):
    with pytest.raises(ConfigurationError, match=f"catalog, {name}: .*{words}"):
        open_server(catalog(tmp_path, **{name: entry}), 0, "ana", 0)


def test_a_port_in_use_leaves_the_labels_free(tmp_path: Path):
    write(tmp_path, PAIR)
    first = open_server(catalog(tmp_path), 0, "ana", 0)
    for _ in range(2):  # the second time it is still the port, not the lock
        with pytest.raises(ConfigurationError, match=f"port {first.server_port} .*another program uses it"):
            open_server(catalog(tmp_path), 0, "ben", first.server_port)
    first.session.close()
    first.server_close()


def test_labels_are_merged_and_shown(tmp_path: Path):
    with pytest.raises(DataError, match="no pair is labelled yet"):
        merge_labels(catalog(tmp_path), 0)
    write(tmp_path, *({**PAIR, "prompt": f"Why {number}?"} for number in range(3)))
    answer(tmp_path, "ana", "So.", "Thus.", "tie")
    answer(tmp_path, "ben", "So.", "So.", "skip")
    merged = merge_labels(catalog(tmp_path), 0)
    written = {file.stem: file.read_text().splitlines() for file in (tmp_path / "labels/merged").glob("[!.]*")}
    assert {name: len(lines) for name, lines in written.items()} == {"preferences": 1, "ties": 1, "disagreements": 1}
    assert json.loads(written["preferences"][0])["chosen"] == "So."
    lines = labels_summary(merged, catalog(tmp_path), tmp_path)
    assert lines[0].startswith("ana and ben: 2 pairs in common, 50% alike, Cohen's κ 0.00 [")
    assert lines[1] == "1 preferences: labels/merged/preferences.jsonl"
    elsewhere = labels_summary(merged, catalog(tmp_path), tmp_path / "project")
    assert elsewhere[1] == f"1 preferences: {tmp_path}/labels/merged/preferences.jsonl"
    assert "labelled in two ways" in lines[-1]
    console = Console(width=100, record=True)
    console.print(labels_table(merged))
    assert [row.split() for row in console.export_text().splitlines() if "ben" in row] == [
        ["│", "ben", "│", "2", "│", "0", "│", "1", "│", "3.0", "│"]
    ]


def test_preferences_are_exported_to_a_new_file(tmp_path: Path):
    write(tmp_path, PAIR)
    answer(tmp_path, "ana", "Thus.")
    merged = merge_labels(catalog(tmp_path), 0)
    for form in ("trl", "hh"):
        file = tmp_path / f"{form}.jsonl"
        assert export_labels(merged, form, file) == f"1 preferences as {form}: {file}"
        (row,) = PreferenceDataset(str(file), format=form).load()
        assert (row["messages"][0]["content"], row["chosen"], row["rejected"]) == ("Why?", "Thus.", "So.")
        before = file.read_bytes()
        with pytest.raises(ConfigurationError, match="there is a file already"):
            export_labels(merged, form, file)
        assert file.read_bytes() == before
    with pytest.raises(StorageError, match=r"nowhere/trl\.jsonl"):
        export_labels(merged, "trl", tmp_path / "nowhere/trl.jsonl")


def test_what_cant_be_exported_leaves_no_file(tmp_path: Path):
    write(tmp_path, PAIR, {**PAIR, "response_1": "So.\n\nHuman: And?"})
    answer(tmp_path, "ana", "tie")
    with pytest.raises(DataError, match="no pair has a preference yet"):
        export_labels(merge_labels(catalog(tmp_path), 0), "hh", tmp_path / "hh.jsonl")
    answer(tmp_path, "ana", "Thus.")
    with pytest.raises(DataError, match=r"preferences\.jsonl, row 1: a text in it would be read as"):
        export_labels(merge_labels(catalog(tmp_path), 0), "hh", tmp_path / "hh.jsonl")
    assert not (tmp_path / "hh.jsonl").exists()
