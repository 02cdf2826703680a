"""Shards: what is committed is never computed again, and a resumed piece of work equals an uninterrupted one."""

import logging
import os
import signal
from pathlib import Path

import pytest
from datasets import Dataset

from faults import in_a_child
from sampled import sample_two, uneven_prompts
from selfie.datasets.rows import RowsDataset
from selfie.generation.transformers_engine import TransformersEngine
from selfie.models.checkpoint import Checkpoint
from selfie.storage.shards import Shards, in_shards


class Squares:
    """Counts what it computes; dies a real death at the row that it is told."""

    def __init__(self, deadly: int | None = None):
        self.deadly = deadly
        self.computed: list[int] = []

    def __call__(self, rows: range) -> Dataset:
        if self.deadly in rows:
            os.kill(os.getpid(), signal.SIGKILL)
        self.computed.extend(rows)
        return Dataset.from_dict({"square": [row**2 for row in rows]})


def test_a_killed_process_redoes_its_last_shard_only(tmp_path: Path):
    """10 rows in shards of 3; the process is killed in the third."""
    status = in_a_child(lambda: in_shards(Shards(tmp_path, 3), Squares(deadly=7), 10))
    assert os.WTERMSIG(status) == signal.SIGKILL
    again = Squares()
    assert in_shards(Shards(tmp_path, 3), again, 10)["square"][:] == [number**2 for number in range(10)]
    assert again.computed == [6, 7, 8, 9]
    third = Squares()
    assert in_shards(Shards(tmp_path, 3), third, 10)["square"][:] == [number**2 for number in range(10)]
    assert third.computed == []


def test_two_pieces_of_work_in_one_folder_do_not_meet(tmp_path: Path):
    one = Shards(tmp_path, 3)
    in_shards(one, Squares(), 4)
    other = Squares()
    in_shards(one.within("other"), other, 4)
    assert other.computed == [0, 1, 2, 3]


@pytest.mark.parametrize("damage", [b"same size", b"shorter", b""])
def test_a_damaged_shard_is_set_aside_and_computed_anew(tmp_path: Path, caplog, damage: bytes):
    in_shards(Shards(tmp_path, 3), Squares(), 6)
    file = tmp_path / "shard-000000/data-00000-of-00001.arrow"
    whole = file.read_bytes()
    file.write_bytes(damage + whole[len(damage) :] if damage == b"same size" else damage)
    again = Squares()
    with caplog.at_level(logging.WARNING):
        assert in_shards(Shards(tmp_path, 3), again, 6)["square"][:] == [0, 1, 4, 9, 16, 25]
    assert again.computed == [0, 1, 2]
    assert file.read_bytes() == whole
    if damage == b"same size":  # else its size says already that it is not committed
        assert "shard-000000 is damaged: set aside" in caplog.text


def test_interrupted_sampling_goes_on_with_the_same_batches(tiny_checkpoint: Checkpoint, tmp_path: Path, monkeypatch):
    """bf16 rounds by the batch: responses equal an uninterrupted run's, and finished shards meet no model."""
    prompts = uneven_prompts(6)

    def sample(folder: Path) -> tuple[list[dict], str | None]:
        """The rows, and the version of the artefact that is made of them: its bytes."""
        rows = sample_two(tiny_checkpoint, prompts, Shards(folder, 5))
        artefact = RowsDataset(str(tmp_path / "responses"))
        artefact.save(rows)
        return rows.to_list(), artefact.version()

    drawn: list[int] = []
    generate = TransformersEngine.generate

    def interrupted(self, requests, sampling):
        if len(drawn) == 2:
            raise InterruptedError
        drawn.append(len(requests))
        return generate(self, requests, sampling)

    whole = sample(tmp_path / "whole")
    monkeypatch.setattr(TransformersEngine, "generate", interrupted)
    with pytest.raises(InterruptedError):
        sample(tmp_path / "killed")
    assert drawn == [5, 5]
    drawn.clear()
    assert sample(tmp_path / "killed") == whole
    assert drawn == [2]
    monkeypatch.setattr(TransformersEngine, "__enter__", lambda self: pytest.fail("a model is loaded for nothing"))
    assert sample(tmp_path / "killed") == whole
