"""The commit protocol: an artefact is the old version or the new one, whatever happens, and damage is noticed."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
import torch
from datasets import Dataset
from kedro.io import AbstractDataset, DatasetError

from faults import in_a_child
from selfie.datasets import CheckpointDataset, CommittedDataset, RowsDataset, WorkspaceDataset
from selfie.errors import ModelError
from selfie.models.checkpoint import Checkpoint
from selfie.storage.commit import commit_file, commit_folder, is_committed, verify

Commit = Callable[[Path, str], None]


def save_file(path: Path, text: str) -> None:
    commit_file(path, lambda new: new.write_text(text) and None)


def save_folder(path: Path, text: str) -> None:
    """Two files, one of them in a folder of its own; the second's name changes with its content."""

    def write(new: Path) -> None:
        (new / "inner").mkdir()
        (new / "inner" / "same.txt").write_text(text)
        (new / f"{text}.txt").write_text(text)

    commit_folder(path, write)


def content(path: Path) -> set[str]:
    """What an artefact of ``save_file`` or ``save_folder`` says; more than one text if it is half of each."""
    if path.is_file():
        return {path.read_text()}
    return {file.read_text() for file in path.rglob("*.txt")}


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize("commit", [save_file, save_folder])
def test_the_new_version_takes_the_place_of_the_old(tmp_path: Path, commit: Commit):
    path = tmp_path / "deep" / "artefact"
    for text in ("old", "new", "newer"):
        commit(path, text)
        verify(path)
        assert is_committed(path)
        assert content(path) == {text}
    if path.is_dir():
        assert names(path) == ["inner", "manifest.json", "newer.txt"]
    assert names(path.parent) in (["artefact"], [".artefact.manifest", "artefact"])


@pytest.mark.parametrize("commit", [commit_file, commit_folder])
def test_a_writer_that_fails_changes_nothing(tmp_path: Path, commit: Callable, request: pytest.FixtureRequest):
    """It fails after it has written something; what was there stays, and nothing is added."""
    path = tmp_path / "artefact"
    (save_file if commit is commit_file else save_folder)(path, "old")
    before = names(tmp_path)

    def write(new: Path) -> None:
        (new / "half.txt" if new.is_dir() else new).write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        commit(path, write)
    verify(path)
    assert content(path) == {"old"}
    assert names(tmp_path) == before


@pytest.mark.parametrize("renames", [0, 1, 2])
@pytest.mark.parametrize("commit", [save_file, save_folder])
def test_a_crash_leaves_the_old_or_the_new(tmp_path: Path, commit: Commit, renames: int):
    """The process dies, without any clean-up, before its first, second or third rename (if it comes to that)."""
    path = tmp_path / "artefact"
    commit(path, "old")
    replace, done = Path.replace, []

    def dying_replace(self: Path, target: Path) -> Path:
        if len(done) == renames:
            os._exit(42)
        done.append(target)
        return replace(self, target)

    def work() -> None:
        Path.replace = dying_replace  # type: ignore[method-assign]
        commit(path, "new")

    assert os.waitstatus_to_exitcode(in_a_child(work)) in (42, 0)
    verify(path)
    assert content(path) in ({"old"}, {"new"})
    commit(path, "newer")  # what the crash left behind does not matter
    assert content(path) == {"newer"}


def damage_by_a_bit(file: Path) -> None:
    """The size stays."""
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("commit", [save_file, save_folder])
def test_damage_is_noticed(tmp_path: Path, commit: Commit):
    """One flipped bit is found on load, and the file is named; its size alone would not tell."""
    path = tmp_path / "artefact"
    commit(path, "something")
    file = path if path.is_file() else path / "inner" / "same.txt"
    damage_by_a_bit(file)
    assert is_committed(path)
    with pytest.raises(DatasetError, match=rf"{file} is damaged"):
        verify(path)


@pytest.mark.parametrize("commit", [save_file, save_folder])
def test_truncation_and_loss_are_not_committed(tmp_path: Path, commit: Commit):
    path = tmp_path / "artefact"
    assert not is_committed(path)
    commit(path, "something")
    file = path if path.is_file() else path / "inner" / "same.txt"
    file.write_text("some")
    assert not is_committed(path)
    file.unlink()
    assert not is_committed(path)
    with pytest.raises(DatasetError, match="not complete"):
        verify(path)


@pytest.mark.parametrize("manifest", ["", "{", "{}"])
def test_a_file_without_a_sound_manifest_does_not_exist(tmp_path: Path, manifest: str):
    path = tmp_path / "artefact"
    save_file(path, "something")
    (tmp_path / ".artefact.manifest").write_text(manifest)
    assert not is_committed(path)
    with pytest.raises(DatasetError):
        verify(path)


FIGURE = go.Figure(go.Scatter(x=[0, 1], y=[0.5, 0.75]), layout={"title": {"text": "win rate"}})


@pytest.mark.parametrize(
    ("name", "inner", "data"),
    [
        ("a.json", {"type": "json.JSONDataset"}, {"win_rate": 61.5, "ci": [50.0, 70.0], "gold": None}),
        ("a.json", {"type": "plotly.JSONDataset"}, FIGURE),
        ("a.md", {"type": "text.TextDataset"}, "# Größe\n\n| 大 |\n"),
    ],
)
def test_committed_dataset_round_trip(tmp_path: Path, name: str, inner: dict[str, Any], data: Any):
    """Twice, since Kedro keeps one dataset for the whole run; and through a fresh one, as the next run has it."""
    path = tmp_path / "room" / name
    dataset = CommittedDataset(str(path), inner)
    assert not dataset.exists()
    dataset.save({} if isinstance(data, dict) else data)
    dataset.save(data)
    assert dataset.exists()
    assert dataset.load() == data
    assert CommittedDataset(str(path), inner).load() == data
    damage_by_a_bit(path)
    with pytest.raises(DatasetError, match="is damaged"):
        dataset.load()


def test_rows_dataset_round_trip(tmp_path: Path):
    """Also where the new rows are made from the old ones, which are memory-mapped from the folder replaced."""
    rows = Dataset.from_list([{"prompt": "Why?", "response_ids": [3, 1], "log_prob": -1.5, "flagged": None}] * 30)
    dataset = RowsDataset(str(tmp_path / "rows"))
    dataset.save(rows)
    assert dataset.load().to_list() == rows.to_list()
    dataset.save(dataset.load().select(range(3)))
    assert dataset.load().to_list() == rows.to_list()[:3]
    assert dataset.exists()
    damage_by_a_bit(next((tmp_path / "rows").glob("*.arrow")))
    with pytest.raises(DatasetError, match="is damaged"):
        dataset.load()


def test_rows_preview_leaves_token_ids_out(tmp_path: Path):
    dataset = RowsDataset(str(tmp_path / "rows"))
    dataset.save(Dataset.from_list([{"prompt": f"{number}", "prompt_ids": [number]} for number in range(30)]))
    preview = dataset.preview(nrows=5)
    assert preview["columns"] == ["prompt"]
    assert preview["data"] == [[f"{number}"] for number in range(5)]


def test_checkpoint_dataset_moves_the_folder(tmp_path: Path, tiny_checkpoint: Checkpoint):
    """The node's folder is gone, the checkpoint is where the catalog says, and loads; damage is noticed."""
    made = tmp_path / "workspace" / "policy"
    tiny_checkpoint.load_model(torch.float32).save_pretrained(made)
    tiny_checkpoint.load_tokenizer().save_pretrained(made)
    dataset = CheckpointDataset(str(tmp_path / "models" / "policy_1"))
    assert not dataset.exists()
    dataset.save(Checkpoint(str(made)))
    assert not made.exists()
    assert dataset.exists()
    policy = dataset.load()
    assert policy.source == str(tmp_path / "models" / "policy_1")
    theirs = tiny_checkpoint.load_model(torch.float32).state_dict()
    for name, weight in policy.load_model(torch.float32).state_dict().items():
        assert torch.equal(weight, theirs[name])
    policy.load_tokenizer()
    damage_by_a_bit(Path(policy.source) / "model.safetensors")
    with pytest.raises(DatasetError, match=r"model\.safetensors is damaged"):
        dataset.load()


def test_a_users_model_needs_no_manifest(tiny_checkpoint: Checkpoint):
    dataset = CheckpointDataset(tiny_checkpoint.source)
    assert dataset.exists()
    assert dataset.load() == tiny_checkpoint


def test_a_missing_model_keeps_its_own_error(tmp_path: Path):
    """As the cause of Kedro's, which the preflight checks unwrap."""
    dataset = CheckpointDataset(str(tmp_path / "nowhere"))
    assert not dataset.exists()
    with pytest.raises(DatasetError) as caught:
        dataset.load()
    assert isinstance(caught.value.__cause__, ModelError)
    assert caught.value.__cause__.where == str(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "either `filepath` or `hub`"),
        ({"filepath": "models/a", "hub": "some/model"}, "either `filepath` or `hub`"),
        ({"hub": "some/model"}, "needs a `revision`"),
    ],
)
def test_a_model_has_one_source_and_is_pinned(arguments: dict[str, str], words: str):
    with pytest.raises(DatasetError, match=words):
        CheckpointDataset(**arguments)


def test_what_is_not_the_projects_is_never_written(tmp_path: Path, tiny_checkpoint: Checkpoint):
    datasets: list[AbstractDataset] = [
        CheckpointDataset(hub="some/model", revision="0123abc"),
        WorkspaceDataset(str(tmp_path)),
    ]
    for dataset in datasets:
        with pytest.raises(DatasetError, match="written"):
            dataset.save(tiny_checkpoint)
