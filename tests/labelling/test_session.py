"""What the page is told, and what its answers become."""

from pathlib import Path
from typing import Any

import pytest

from selfie.labelling.label_file import LabelFile, read_labels
from selfie.labelling.session import LabellingSession, RefusedError, pair_id

Pairs = list[dict[str, Any]]


def open_session(folder: Path, pairs: Pairs, annotator: str = "ana", seed: int = 0) -> LabellingSession:
    file = LabelFile(folder, annotator)
    return LabellingSession(pairs, file, file.open(), seed)


def test_labels_name_the_response_that_was_shown_there(tmp_path: Path, pairs: Pairs):
    """Left and right are an order, drawn from the seed; the file says which response is meant."""
    session = open_session(tmp_path, pairs)
    shown = []
    for choice in ("left", "right", "tie", "skip"):
        pair = session.state()["pair"]
        shown.append([answer["text"] for answer in pair["answers"]])
        session.label(pair["id"], choice, 1.5)
    assert session.state() | {"pair": None} == session.state()
    assert session.state()["done"] == 4
    lines = read_labels(tmp_path / "ana.jsonl")
    assert getattr(lines[0], lines[0].verdict) == shown[0][0]
    assert getattr(lines[1], lines[1].verdict) == shown[1][1]
    assert [line.verdict for line in lines[2:]] == ["tie", "skip"]
    assert all(getattr(line, line.left) == texts[0] for line, texts in zip(lines, shown, strict=True))
    assert all(line.seconds == 1.5 for line in lines)


def test_the_order_is_the_seeds_and_no_side_is_preferred(tmp_path: Path, pairs: Pairs):
    many = [{**pairs[0], "response_1": f"a{number}", "response_2": f"b{number}"} for number in range(400)]

    def lefts(annotator: str, seed: int) -> list[str]:
        session = open_session(tmp_path, many, annotator, seed)
        found = []
        while pair := session.state()["pair"]:
            found.append(pair["answers"][0]["text"])
            session.label(pair["id"], "tie", 0)
        session.close()
        (tmp_path / f"{annotator}.jsonl").unlink()
        return found

    once = lefts("ana", 0)
    assert once == lefts("ana", 0)
    assert once != lefts("ben", 0)
    assert once != lefts("ana", 1)
    assert 150 < sum(text.startswith("a") for text in once) < 250


def test_the_page_learns_nothing_of_who_wrote_what(tmp_path: Path, pairs: Pairs):
    state = open_session(tmp_path, [{**pairs[0], "source": "policy_1", "margin": 0.3}]).state()
    assert state["pair"].keys() == {"id", "messages", "answers"}
    assert all(answer.keys() == {"text", "cut"} for answer in state["pair"]["answers"])
    assert sorted(answer["cut"] for answer in state["pair"]["answers"]) == [False, True]


def test_it_goes_on_where_it_stopped_and_undoes_across_the_stop(tmp_path: Path, pairs: Pairs):
    session = open_session(tmp_path, pairs)
    first, second = (pair_id(row["messages"], [row["response_1"], row["response_2"]]) for row in pairs[:2])
    session.label(first, "left", 4)
    session.label(second, "skip", 2)
    session.close()

    session = open_session(tmp_path, pairs)
    state = session.state()
    assert (state["done"], state["skipped"], state["median_seconds"]) == (2, 1, 3)
    assert session.undo()["pair"]["id"] == second
    assert session.undo()["pair"]["id"] == first
    with pytest.raises(RefusedError, match="no label to undo"):
        session.undo()
    session.close()
    assert open_session(tmp_path, pairs).state()["done"] == 0


def test_a_pair_is_labelled_once_in_whichever_order_it_comes(tmp_path: Path, pairs: Pairs):
    turned = {**pairs[0], "response_1": pairs[0]["response_2"], "response_2": pairs[0]["response_1"]}
    session = open_session(tmp_path, pairs)
    name = session.state()["pair"]["id"]
    session.label(name, "left", 1)
    with pytest.raises(RefusedError, match="labelled already"):
        session.label(name, "right", 1)
    with pytest.raises(RefusedError, match="none of those"):
        session.label("0000", "right", 1)
    session.close()
    assert open_session(tmp_path, [turned]).state()["pair"] is None
    assert len(read_labels(tmp_path / "ana.jsonl")) == 1
