"""What the user brings, in every format, and what the errors say where it can't be used."""

import csv
import gzip
import json
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kedro.io import AbstractDataset, DatasetError

from selfie.datasets import PreferenceDataset, PromptDataset
from selfie.errors import DataError

ROWS = [
    {"prompt": "Why is the sky blue?", "chosen": "Blue light scatters most.", "rejected": "It reflects, the sea."},
    {"prompt": 'A "quoted", comma', "chosen": "two\nlines", "rejected": "Größe, 大きさ, 👍"},
    {"prompt": "3", "chosen": "4", "rejected": "5"},
]
SUFFIXES = [".jsonl", ".json", ".csv", ".parquet"]


def error_of(dataset: AbstractDataset) -> DataError:
    """The user's error: Kedro wraps what a dataset raises, and the preflight checks unwrap it."""
    with pytest.raises(DatasetError) as caught:
        dataset.load()
    assert isinstance(caught.value.__cause__, DataError)
    return caught.value.__cause__


def write(folder: Path, suffix: str, rows: list[dict[str, Any]]) -> str:
    path = folder / f"rows{suffix}"
    if suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    elif suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    else:
        text = json.dumps(rows) if suffix == ".json" else "\n".join(json.dumps(r, ensure_ascii=False) for r in rows)
        path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str):
    loaded = PreferenceDataset(write(tmp_path, suffix, ROWS)).load()
    assert [
        {"prompt": row["messages"][0]["content"], "chosen": row["chosen"], "rejected": row["rejected"]}
        for row in loaded
    ] == ROWS
    assert all(len(row["messages"]) == 1 and row["messages"][0]["role"] == "user" for row in loaded)
    # Text files count lines from 1 (CSV has a header, and its second row spans two lines), the others rows from 0.
    assert loaded["row"][:] == {".jsonl": [1, 2, 3], ".csv": [2, 4, 5]}.get(suffix, [0, 1, 2])


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_conversations(tmp_path: Path, suffix: str):
    """The prompt keeps all its turns; of a response that is a conversation the last turn counts."""
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": "And?"},
    ]
    row = {
        "prompt": turns,
        "chosen": [*turns, {"role": "assistant", "content": "Well."}],
        "rejected": [{"role": "assistant", "content": "Hm."}],
    }
    (loaded,) = PreferenceDataset(write(tmp_path, suffix, [row])).load()
    assert loaded["messages"] == turns
    assert (loaded["chosen"], loaded["rejected"]) == ("Well.", "Hm.")


def test_a_prompts_name_is_its_content(tmp_path: Path):
    """The same text has the same id in any file and form, so that its samples have the same seeds; others differ."""
    plain = PromptDataset(write(tmp_path, ".json", [{"prompt": "Hello."}, {"prompt": "Hello!"}])).load()
    turn = [{"role": "user", "content": "Hello."}]
    conversation = PromptDataset(write(tmp_path, ".jsonl", [{"prompt": turn}])).load()
    assert plain["prompt_id"][0] == conversation["prompt_id"][0]
    assert plain["prompt_id"][0] != plain["prompt_id"][1]


def test_columns_are_mapped(tmp_path: Path):
    """Our name → theirs; columns that nobody asked for are left out, even one called like ours."""
    rows = [{"question": "Why?", "prompt": "wrong", "good": "Because.", "rejected": "No.", "score": 7}]
    dataset = PreferenceDataset(
        write(tmp_path, ".jsonl", rows), columns={"prompt": "question", "chosen": "good"}
    ).load()
    assert dataset[0]["messages"][0]["content"] == "Why?"
    assert dataset[0]["chosen"] == "Because."
    assert not {"question", "prompt", "good", "score"} & set(dataset.column_names)


def test_finish_reasons_are_optional(tmp_path: Path):
    """A response counts as finished unless the row says that it was cut off."""
    rows = [ROWS[0], {**ROWS[2], "chosen_finish_reason": "length"}]
    dataset = PreferenceDataset(write(tmp_path, ".jsonl", rows)).load()
    assert dataset["chosen_finish_reason"][:] == ["stop", "length"]
    assert dataset["rejected_finish_reason"][:] == ["stop", "stop"]


def test_rows_are_shuffled_and_then_cut(tmp_path: Path):
    """The cuts [0, 30) and [30, 100) of one seed are a partition; row numbers stay those of the file."""
    path = write(tmp_path, ".json", [{"prompt": f"prompt {number}"} for number in range(100)])
    first, rest, again = (
        PromptDataset(path, shuffle_seed=seed, rows=rows).load()["row"][:]
        for seed, rows in ((1, [0, 30]), (1, [30, 100]), (1, [0, 30]))
    )
    assert sorted(first + rest) == list(range(100))
    assert first == again
    assert first != sorted(first)
    assert PromptDataset(path, shuffle_seed=2, rows=[0, 30]).load()["row"][:] != first
    unshuffled = PromptDataset(path, rows=[10, 12]).load()
    assert [m[0]["content"] for m in unshuffled["messages"]] == ["prompt 10", "prompt 11"]


@pytest.mark.parametrize("separator", ["\u2028", "\x85", "\x0c", "\x1d"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_only_newlines_end_a_row(tmp_path: Path, suffix: str, separator: str):
    """Unicode's other line ends are text: they come in scraped data, and no writer of CSV quotes them."""
    rows = [{"prompt": f"one{separator}two"}, {"prompt": "three"}]
    dataset = PromptDataset(write(tmp_path, suffix, rows)).load()
    assert [messages[0]["content"] for messages in dataset["messages"]] == [f"one{separator}two", "three"]


@pytest.mark.parametrize(("suffix", "text"), [(".csv", "prompt\nWhy?\n"), (".jsonl", '{"prompt": "Why?"}\n')])
@pytest.mark.parametrize(("encoding", "newline"), [("utf-8", "\r\n"), ("utf-8-sig", "\n"), ("utf-8-sig", "\r\n")])
def test_files_from_windows(tmp_path: Path, suffix: str, text: str, encoding: str, newline: str):
    """Carriage returns, and the byte order mark with which Excel saves "CSV UTF-8"."""
    path = tmp_path / f"prompts{suffix}"
    path.write_bytes(text.replace("\n", newline).encode(encoding))
    assert PromptDataset(str(path)).load()["messages"][0] == [{"role": "user", "content": "Why?"}]


# Beside those of tests/bad_inputs.py, which are put before a run.
BAD = {
    "header alone": (".csv", "prompt,chosen,rejected\n", ["rows.csv", "no rows"]),
    "short CSV row": (".csv", "prompt,chosen,rejected\np,a\n", ["row 2", "no `rejected`"]),
    "broken JSON": (".json", '[{"prompt": "p"', ["rows.json", "not JSON"]),
    "texts in JSON": (".json", '["p"]', ["rows.json", "not a list of objects"]),
    "empty conversation": (
        ".jsonl",
        '{"prompt": [], "chosen": "a", "rejected": "b"}',
        ["row 1", "`prompt` is neither text nor a list"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(tmp_path: Path, case: str):
    """The error says where, what and what to do."""
    suffix, content, words = BAD[case]
    path = tmp_path / f"rows{suffix}"
    path.write_text(content)
    error = error_of(PreferenceDataset(str(path)))
    assert str(path) in error.where
    assert error.remedy
    for word in words:
        assert word in str(error)


def test_many_bad_rows_are_counted(tmp_path: Path):
    """Seven bad rows: the first with its remedy, four more by name, two by number."""
    rows = [{"prompt": "fine"}, *[{"prompt": ""}] * 7]
    message = str(error_of(PromptDataset(write(tmp_path, ".json", rows))))
    assert all(f"row {number}" in message for number in range(1, 6))
    assert "and 2 more rows" in message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "either `filepath` or `hub`"),
        ({"filepath": "a.csv", "hub": "some/data"}, "either `filepath` or `hub`"),
        ({"hub": "some/data"}, "needs a `revision`"),
    ],
)
def test_the_source_is_one_and_pinned(arguments: dict[str, str], words: str):
    with pytest.raises(DatasetError, match=words):
        PromptDataset(**arguments)


def test_the_users_data_is_never_written(tmp_path: Path):
    path = Path(write(tmp_path, ".json", ROWS))
    before = path.read_bytes()
    with pytest.raises(DatasetError):
        PromptDataset(str(path)).save(random.random())
    assert path.read_bytes() == before


def test_shares_split_the_prompts(tmp_path):
    """Every pair is in one share; a prompt's pairs stay together; the order is the same in every share."""
    pairs = [{"prompt": f"prompt {n // 2}", "chosen": f"good {n}", "rejected": "bad"} for n in range(200)]
    path = write(tmp_path, ".jsonl", pairs)
    first, second, whole = (
        PreferenceDataset(filepath=path, share=share).load() for share in ([0.0, 0.4], [0.4, 1.0], [0.0, 1.0])
    )
    assert not set(first["prompt_id"]) & set(second["prompt_id"])
    assert first["chosen"][:] + second["chosen"][:] == whole["chosen"][:]
    assert sorted(whole["chosen"]) == sorted(pair["chosen"] for pair in pairs)
    assert len(first) == pytest.approx(80, abs=30)
    assert whole["chosen"][:] != [pair["chosen"] for pair in pairs]


def test_long_rows_are_left_out(tmp_path):
    pairs = [{"prompt": "p" * length, "chosen": "c", "rejected": "r" * other} for length, other in ((9, 10), (11, 2))]
    pairs.append({"prompt": "q", "chosen": "c" * 11, "rejected": "r"})
    rows = PreferenceDataset(filepath=write(tmp_path, ".jsonl", pairs), max_characters=10).load()
    assert rows["rejected"][:] == ["r" * 10]


def test_a_conversation_is_as_long_as_its_turns(tmp_path):
    turns = [{"role": role, "content": "abcd"} for role in ("user", "assistant", "user")]
    path = write(tmp_path, ".jsonl", [{"prompt": turns}, {"prompt": "abcdefghij"}])
    assert [len(row["messages"]) for row in PromptDataset(filepath=path, max_characters=11).load()] == [1]
    assert [len(row["messages"]) for row in PromptDataset(filepath=path, max_characters=12).load()] == [3, 1]


def test_a_compressed_file_is_read(tmp_path):
    path = Path(write(tmp_path, ".jsonl", ROWS))
    packed = path.with_name("rows.jsonl.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    packed_rows, rows = (PreferenceDataset(filepath=str(file)).load() for file in (packed, path))
    assert packed_rows.to_list() == rows.to_list()
