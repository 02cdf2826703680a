"""Preference pairs of other tools, in small files of each format."""

import json
from pathlib import Path
from typing import Any

import pytest
import trl
from kedro.io import DatasetError

from selfie.data.label_formats import EXPORTS, to_hh, to_trl
from selfie.datasets import PreferenceDataset

Rows = list[dict[str, Any]]
ASK = {"role": "user", "content": "What colour is the sky?"}
BLUE, GREEN = ({"role": "assistant", "content": f"It is {colour}."} for colour in ("blue", "green"))
TALK = [ASK, BLUE, {"role": "user", "content": "And at night?"}]
HH = "\n\nHuman: What colour is the sky?\n\nAssistant: It is "


def dataset(folder: Path, rows: Rows, format: str | None = None, **columns: str) -> PreferenceDataset:
    path = folder / "pairs.json"
    path.write_text(json.dumps(rows))
    return PreferenceDataset(str(path), format=format, columns=columns)


def problem(folder: Path, rows: Rows, format: str, **columns: str) -> str:
    """What is said of the only row."""
    found, (only,) = dataset(folder, rows, format, **columns).inspect()
    assert list(found) == []
    assert only.remedy
    return only.problem


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": ASK["content"], "chosen": BLUE["content"], "rejected": GREEN["content"]},
        {"prompt": [ASK], "chosen": [BLUE], "rejected": [GREEN]},
        {"chosen": [ASK, BLUE], "rejected": [ASK, GREEN]},
        {"prompt": ASK["content"], "chosen": [ASK, BLUE], "rejected": [ASK, GREEN]},
    ],
    ids=["texts", "messages", "implicit prompt", "prompt and whole conversations"],
)
def test_trl(tmp_path: Path, row: dict[str, Any]):
    (loaded,) = dataset(tmp_path, [row], "trl").load()
    assert loaded["messages"] == [ASK]
    assert (loaded["chosen"], loaded["rejected"]) == ("It is blue.", "It is green.")


def test_trl_takes_the_same_implicit_prompt(tmp_path: Path):
    row = {"chosen": [*TALK, BLUE], "rejected": [*TALK, GREEN]}
    (loaded,) = dataset(tmp_path, [row], "trl").load()
    theirs = trl.extract_prompt(row)
    assert loaded["messages"] == theirs["prompt"]
    assert [{"role": "assistant", "content": loaded["chosen"]}] == theirs["chosen"]


def test_trls_implicit_prompt_of_texts_is_refused(tmp_path: Path):
    row = {"chosen": "The sky is blue.", "rejected": "The sky is black."}
    assert "it has no prompt" in problem(tmp_path, [row], "trl")


def test_trls_conversations_that_part_early_are_refused(tmp_path: Path):
    row = {"chosen": [ASK, BLUE, ASK, BLUE], "rejected": [ASK, GREEN, ASK, GREEN]}
    assert "differ before their last turn" in problem(tmp_path, [row], "trl")


def test_hh(tmp_path: Path):
    more = "blue.\n\nHuman: And at night?\n\nAssistant: "
    rows = [
        {"chosen": f"{HH}blue.", "rejected": f"{HH}green."},
        {"chosen": f"{HH}{more}Black:\n\nmostly.", "rejected": f"{HH}{more}Green."},
    ]
    first, second = dataset(tmp_path, rows, "hh").load()
    assert first["messages"] == [ASK]
    assert (first["chosen"], first["rejected"]) == ("It is blue.", "It is green.")
    assert second["messages"] == TALK
    assert second["chosen"] == "Black:\n\nmostly."


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ("The sky is blue.", "does not begin with Human:"),
        (f"{HH}blue.\n\nHuman: Why?\n\nAssistant: So.", "differ before their last turn"),
        ("\n\nHuman: What colour is the sky?", "differ before their last turn"),
        (3, "`chosen` is no text"),
    ],
)
def test_hh_that_is_none(tmp_path: Path, chosen: Any, words: str):
    assert words in problem(tmp_path, [{"chosen": chosen, "rejected": f"{HH}green."}], "hh")


def argilla(*values: Any, question: str = "preference", **fields: str) -> dict[str, Any]:
    """A record as Argilla 2 exports it."""
    texts = {"prompt": "Why?", "response_1": "So.", "response_2": "Thus."} | fields
    said = [{"value": value, "user_id": f"user-{number}"} for number, value in enumerate(values)]
    responses = {question: said} if said else {}
    return {"id": "a", "fields": texts, "metadata": {}, "suggestions": {}, "responses": responses, "vectors": {}}


@pytest.mark.parametrize(
    "value",
    [
        "response_2",
        ["response_2", "response_1"],
        [{"value": "response_1", "rank": 2}, {"value": "response_2", "rank": 1}],
    ],
    ids=["label", "ranking", "ranking of Argilla 1"],
)
def test_argilla(tmp_path: Path, value: Any):
    rows = [argilla(value), argilla(value, value, question="better", prompt="How?")]
    first, second = dataset(tmp_path, rows, "argilla").load()
    assert (first["chosen"], first["rejected"]) == ("Thus.", "So.")
    assert second["messages"][0]["content"] == "How?"


def test_argilla_with_other_names(tmp_path: Path):
    record = argilla("gpt", question="winner", ask="Who?", gpt="Me.", llama="You.")
    record["responses"]["comment"] = [{"value": "clear", "user_id": "user-0"}]
    names = {"prompt": "ask", "response_1": "gpt", "response_2": "llama", "question": "winner"}
    (row,) = dataset(tmp_path, [record], "argilla", **names).load()
    assert (row["messages"][0]["content"], row["chosen"]) == ("Who?", "Me.")
    assert "no question 'preference', but 'winner', 'comment'" in problem(tmp_path, [record], "argilla")


def label_studio(*selected: str | None, cancelled: bool = False, **data: str) -> dict[str, Any]:
    """A task as Label Studio exports it; None: an annotation without a choice."""
    texts = {"prompt": "Why?", "answer1": "So.", "answer2": "Thus."} | data
    results = [
        [{"type": "pairwise", "from_name": "pw", "to_name": "t1,t2", "value": {"selected": side}}] if side else []
        for side in selected
    ]
    return {"id": 1, "data": texts, "annotations": [{"result": r, "was_cancelled": cancelled} for r in results]}


def test_label_studio(tmp_path: Path):
    rows = [label_studio("left"), label_studio("right", "right", None, prompt="How?")]
    first, second = dataset(tmp_path, rows, "label_studio").load()
    assert (first["chosen"], first["rejected"]) == ("So.", "Thus.")
    assert (second["chosen"], second["rejected"]) == ("Thus.", "So.")


@pytest.mark.parametrize(
    ("format", "undecided", "decided", "contrary"),
    [
        ("argilla", argilla(), argilla("response_1"), argilla("response_1", "response_2")),
        ("label_studio", label_studio(None), label_studio("left"), label_studio("left", "right")),
    ],
)
def test_what_annotators_leave_open_is_left_out_and_what_they_dispute_is_named(
    tmp_path: Path, caplog, format: str, undecided: dict, decided: dict, contrary: dict
):
    caplog.set_level("INFO")
    loaded = dataset(tmp_path, [undecided, decided, undecided], format)
    assert loaded.load()["row"][:] == [1]
    assert "2 rows hold no preference" in caplog.text
    assert problem(tmp_path, [contrary], format) == "its annotators disagree"
    with pytest.raises(DatasetError, match="none of the 2 rows holds a preference"):
        dataset(tmp_path, [undecided, undecided], format).load()


@pytest.mark.parametrize("format", ["trl", "hh", "argilla", "label_studio"])
@pytest.mark.parametrize(
    "row",
    [
        {},
        {"prompt": "a", "answer1": "b", "answer2": "c", "comparison": "left"},
        {"fields": {"prompt": "a"}, "responses": {"preference": [3]}, "chosen": [3], "rejected": [4]},
        {"data": {"prompt": "a"}, "annotations": [{"result": [3]}], "chosen": None, "rejected": {"a": 1}},
        {"fields": 1, "responses": {"q": [{"value": [{"value": {}}]}]}, "data": [], "annotations": [None]},
    ],
)
def test_rows_of_something_else_are_named_not_crashed_on(tmp_path: Path, format: str, row: dict[str, Any]):
    found, problems = [], []
    try:
        found, problems = dataset(tmp_path, [row], format).inspect()
    except Exception as error:
        assert "none of the 1 rows holds a preference" in str(error)
    assert list(found) == []
    assert all(problem.problem and problem.remedy for problem in problems)


TEXTS = {"prompt": ASK["content"], "chosen": BLUE["content"], "rejected": "It is\n\ngreen – or 青."}
TURNS = {"prompt": TALK, "chosen": "Black.", "rejected": "Human: say I.\nAssistant: say you."}


@pytest.mark.parametrize("row", [TEXTS, TURNS], ids=["text", "conversation"])
@pytest.mark.parametrize("format", EXPORTS)
def test_what_is_exported_is_read_again(tmp_path: Path, format: str, row: dict[str, Any]):
    (own,) = dataset(tmp_path, [row]).load()
    (again,) = dataset(tmp_path, [EXPORTS[format](row)], format).load()
    assert again == own


def test_hh_is_written_as_anthropic_does():
    assert to_hh(TEXTS)["chosen"] == f"{HH}blue."
    assert to_hh(TURNS)["chosen"] == f"{HH}blue.\n\nHuman: And at night?\n\nAssistant: Black."


def test_trl_takes_what_is_written_for_it(tokenizer):
    """As a conversation: the model's template goes over it, the prompt's end included."""
    row = to_trl({"prompt": "t0a t0b", "chosen": "w00 w01", "rejected": "w02"})
    assert trl.is_conversational(row)
    laid = trl.apply_chat_template(row, tokenizer)
    whole = [*row["prompt"], *row["chosen"]]
    assert laid["prompt"] == tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
    assert laid["prompt"] + laid["chosen"] == tokenizer.apply_chat_template(whole, tokenize=False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": [{"role": "system", "content": "Be brief."}, ASK]}, "has a system message"),
        ({"rejected": "So.\n\nHuman: And then?"}, "would be read as a Human: or Assistant: turn"),
        ({"prompt": "What follows?\n\nAssistant: what?"}, "would be read as a Human: or Assistant: turn"),
    ],
)
def test_what_hh_cant_say_is_refused(changes: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        to_hh({**TEXTS, **changes})


def test_the_format_is_part_of_what_the_data_are(tmp_path: Path):
    row = {"prompt": "a", "chosen": "b", "rejected": "c"}
    assert dataset(tmp_path, [row]).version() != dataset(tmp_path, [row], "trl").version()
    with pytest.raises(DatasetError, match="'csv' is not known: use one of trl, hh, argilla, label_studio"):
        dataset(tmp_path, [row], "csv")
