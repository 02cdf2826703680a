"""An annotator's file: every label is there after a kill, a cut line is set aside, one process writes."""

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from selfie.errors import AlreadyRunningError, ConfigurationError, DataError, StorageError
from selfie.labelling.label_file import LabelFile, label_files, read_labels, standing

KILLED = """
import os, signal, sys
from pathlib import Path
from selfie.labelling.label_file import Label, LabelFile

file = LabelFile(Path(sys.argv[1]), "ana")
file.open()
file.append(Label.model_validate_json(sys.argv[2]))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def filled(tmp_path, make_label):
    """A file of two labels."""
    file = LabelFile(tmp_path, "ana")
    assert file.open() == []
    for number in range(2):
        file.append(make_label(number, "tie"))
    file.close()
    return file


def test_labels_of_a_killed_process_are_there(tmp_path: Path, make_label, caplog: pytest.LogCaptureFixture):
    label = make_label(1, "response_2")
    command = [sys.executable, "-c", KILLED, str(tmp_path), label.model_dump_json()]
    assert subprocess.run(command, check=False).returncode == -9
    file = LabelFile(tmp_path, "ana")
    assert file.open() == [label]
    assert "did not end by itself" in caplog.text
    file.close()


@pytest.mark.parametrize("cut", [1, 20, -1])
def test_a_last_line_that_was_cut_is_set_aside(filled: LabelFile, make_label, caplog, cut: int):
    """All complete lines stay, the rest is kept, and the next label begins a line of its own."""
    line = make_label(2, "skip").model_dump_json().encode()
    before = filled.path.read_bytes()
    filled.path.write_bytes(before + line[:cut])
    assert len(filled.open()) == 2
    assert filled.path.read_bytes() == before
    torn = filled.path.with_name(".torn-ana.jsonl")
    assert torn.read_bytes() == line[:cut] + b"\n"
    assert "its last line was cut in the middle; it is set aside in" in caplog.text
    filled.append(make_label(3, "tie"))
    filled.close()
    assert len(read_labels(filled.path)) == 3
    assert list(label_files(filled.path.parent)) == [filled.path]


def test_a_last_line_that_lacks_only_its_end_counts(filled: LabelFile, make_label, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING)
    label = make_label(2, "skip")
    with filled.path.open("a") as stream:
        stream.write(label.model_dump_json())
    assert len(read_labels(filled.path)) == 2  # who only reads can't know whether it is still being written
    caplog.clear()
    assert filled.open()[-1] == label
    assert caplog.text == ""
    filled.close()
    assert filled.path.read_bytes().endswith(b"}\n")


def test_a_broken_line_in_the_middle_is_named(filled: LabelFile):
    lines = filled.path.read_text().splitlines()
    changed = {**json.loads(lines[0]), "verdict": "both"}
    filled.path.write_text("\n".join([json.dumps(changed), *lines, ""]))
    with pytest.raises(DataError, match=re.escape(f"{filled.path}, row 1: it is no label (verdict: ")):
        filled.open()
    filled.path.write_text("\n".join([lines[0], "{not json", lines[1], ""]))
    with pytest.raises(DataError, match=r"row 2: it is no label \(Invalid JSON.*\{not json\n  → mend the line"):
        filled.open()
    filled.path.write_text("\n".join([*lines, ""]))
    assert len(filled.open()) == 2  # the lock was let go of
    filled.close()


def test_a_second_process_is_refused_and_told_who_has_it(filled: LabelFile):
    filled.open()
    with pytest.raises(AlreadyRunningError, match=f"another process writes ana's labels: pid {os.getpid()}.*\n.*--ann"):
        LabelFile(filled.path.parent, "ana").open()
    other = LabelFile(filled.path.parent, "ben")
    assert other.open() == []
    other.close()
    filled.close()


def test_a_full_disk_leaves_the_file_as_it_was(small_disk: Path, make_label):
    file = LabelFile(small_disk, "ana")
    file.open()
    file.append(make_label(0, "tie"))
    before = file.path.read_bytes()
    with pytest.raises(StorageError, match=r"ana\.jsonl: the disk is full"):
        file.append(make_label(1, "tie", response_1="x" * 600_000))
    assert file.path.read_bytes() == before
    file.append(make_label(1, "tie"))
    file.close()
    assert len(read_labels(file.path)) == 2


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b", "x" * 101])
def test_a_name_is_no_path(tmp_path: Path, name: str):
    with pytest.raises(ConfigurationError, match="is no name for a file"):
        LabelFile(tmp_path, name)


def test_undone_labels_do_not_stand(make_label):
    """An undoing takes the pair's last label back, and nothing where there is none."""
    first, again = make_label(0, "tie"), make_label(0, "response_1")
    undone, other = make_label(0, "undone"), make_label(1, "skip")
    assert standing([first, other, undone, again]) == [other, again]
    assert standing([first, again, undone]) == [first]
    assert standing([undone, other]) == [other]
