"""Whatever bytes a file holds, its reader gives checked rows or an error of the user's, never anything else."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kedro.io import DatasetError

from configuration import parameters
from selfie.datasets import PreferenceDataset, PromptDataset
from selfie.errors import ConfigurationError, DataError, ModelError
from selfie.models.chat_template_checks import check_model
from selfie.models.checkpoint import Checkpoint

SUFFIXES = [".jsonl", ".json", ".csv", ".parquet"]
KINDS = [PromptDataset, PreferenceDataset]
# Lone surrogates, controls and astral characters included: what JSON's escapes can say, Python's text can hold.
TEXT = st.text(st.characters(codec=None, categories=None), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
ROLES = st.sampled_from(["system", "user", "assistant", "root", "", None, 3])
MESSAGES = st.lists(st.fixed_dictionaries({"role": ROLES, "content": SCALARS}) | SCALARS, max_size=4)
VALUES = st.recursive(
    SCALARS | MESSAGES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
)
FIELDS = st.sampled_from([*PreferenceDataset.fields, "other"])
ROWS = st.lists(st.dictionaries(FIELDS, VALUES, max_size=6) | VALUES, min_size=1, max_size=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def read(kind: type, folder: Path, suffix: str, content: bytes) -> None:
    """Loads the file; rows must keep what the rest of the project relies on."""
    path = folder / f"rows{suffix}"
    path.write_bytes(content)
    try:
        rows = kind(str(path)).load()
    except DatasetError as wrapped:
        error = wrapped.__cause__
        assert isinstance(error, DataError), repr(error)
        assert str(path) in error.where
        assert error.problem
        assert error.remedy
        assert len(str(error)) < 4000
    else:
        for row in rows:
            roles = [message["role"] for message in row["messages"]]
            assert roles[-1] == "user"
            assert set(roles) <= {"system", "user", "assistant"}
            texts = [
                *(message["content"] for message in row["messages"]),
                row.get("chosen", "x"),
                row.get("rejected", "x"),
            ]
            assert all(text.strip() and "\x00" not in text and text.encode() for text in texts)
            assert "chosen" not in row or row["chosen"] != row["rejected"]
    assert path.read_bytes() == content


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150)
@given(content=st.binary(max_size=200))
@example(content=b"\xef\xbb\xbf")
@example(content=b'prompt,chosen,rejected\n"')
@example(content=b'{"prompt": ' + b"[" * 100_000)
@example(content=b"PAR1" + bytes(40) + b"PAR1")
def test_any_bytes(kind: type, folder: Path, suffix: str, content: bytes):
    read(kind, folder, suffix, content)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=300)
@given(rows=ROWS)
def test_any_json(kind: type, folder: Path, rows: list[Any]):
    """Valid JSON of every shape, by both readers."""
    read(kind, folder, ".json", json.dumps(rows).encode())
    read(kind, folder, ".jsonl", "\n".join(json.dumps(row) for row in rows).encode())


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150)
@given(st.lists(st.lists(st.text(max_size=10), max_size=6), max_size=5), st.booleans())
def test_any_csv(kind: type, folder: Path, lines: list[list[str]], header: bool):
    """Ragged rows, stray quotes, line breaks of all kinds, too few columns and too many."""
    text = "\n".join(",".join(line) for line in lines)
    read(kind, folder, ".csv", (("prompt,chosen,rejected\n" if header else "") + text).encode("utf-8", "ignore"))


PAIRS = [{"prompt": f"p{n}", "chosen": [{"role": "assistant", "content": "a"}], "rejected": "b"} for n in range(3)]


def parquet(rows: list[dict]) -> bytes:
    stream = io.BytesIO()
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), stream)
    return stream.getvalue()


PARQUET = parquet([{"prompt": f"p{n}", "chosen": "a", "rejected": "b"} for n in range(3)])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(PARQUET) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_parquet(kind: type, folder: Path, changes: list[tuple[int, int]]):
    """A few bytes of a good file are others."""
    content = bytearray(PARQUET)
    for place, value in changes:
        content[place] = value
    read(kind, folder, ".parquet", bytes(content))


@pytest.mark.parametrize("kind", KINDS)
@given(
    st.lists(
        st.fixed_dictionaries({"prompt": st.binary(max_size=8) | st.none(), "chosen": st.binary(max_size=4)}),
        min_size=1,
        max_size=3,
    )
)
def test_parquet_of_other_types(kind: type, folder: Path, rows: list[dict]):
    read(kind, folder, ".parquet", parquet(rows))


TEST = parameters("test")


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"])
@settings(max_examples=100)
@given(changes=st.dictionaries(TEXT, VALUES, max_size=2) | VALUES | st.binary(max_size=60))
def test_any_checkpoint(tiny_checkpoint: Checkpoint, tmp_path_factory, name: str, changes: Any):
    """The model's JSON files too, changed in one of their settings or altogether."""
    copy = Path(shutil.copytree(tiny_checkpoint.source, tmp_path_factory.mktemp("model") / "model"))
    whole = json.loads((copy / name).read_text())
    if isinstance(changes, dict):
        changes = {**whole, **dict(zip(sorted(whole)[:: max(1, len(changes))], changes.values(), strict=False))}
    (copy / name).write_bytes(changes if isinstance(changes, bytes) else json.dumps(changes).encode())
    try:
        check_model(Checkpoint(str(copy)), TEST)
    except (ModelError, ConfigurationError) as error:
        assert error.remedy
    shutil.rmtree(copy)
