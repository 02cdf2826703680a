"""``selfie label`` and ``selfie labels`` as they are typed: labels that are cut, contradict each other or are held."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from kedro.framework.startup import bootstrap_project

from runs import PROJECT
from selfie.cli import cli
from selfie.labelling.label_file import Label, LabelFile, read_labels

PAIRS = "data/05_model_input/test/proposed_pairs.jsonl"
LABELS = "data/01_raw/labels/test"


@pytest.fixture
def file(own_copy: Path, pairs, make_label: Callable[..., Label]) -> LabelFile:
    """Of the annotator ana, in a project with four pairs: she finds answer 1 of the first two better."""
    (own_copy / PAIRS).parent.mkdir(parents=True)
    rows = [{**row, "prompt": row["messages"]} for row in pairs]
    (own_copy / PAIRS).write_text("\n".join(map(json.dumps, rows)))
    file = LabelFile(own_copy / LABELS, "ana")
    file.open()
    for number in range(2):
        file.append(make_label(number, "response_1"))
    file.close()
    return file


@pytest.fixture
def selfie(own_copy: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """``selfie(words)``: the command in that project."""
    bootstrap_project(PROJECT)
    monkeypatch.chdir(PROJECT)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{own_copy}/mlflow.db")
    options = ["--env", "mine", "--conf-source", str(own_copy / "conf")]
    return lambda command, *more: CliRunner().invoke(cli, [command, *options, *more])


def said(result: Result) -> str:
    return " ".join(result.output.split())


def test_a_file_that_was_cut_in_the_middle_of_a_line_gives_its_other_labels(file: LabelFile, selfie, caplog):
    whole = file.path.read_bytes()
    file.path.write_bytes(whole[:-40])
    result = selfie("labels")
    assert result.exit_code == 0, result.output
    assert "1 preferences: " in said(result)
    assert f"{file.path}: its last line is not complete and is left out" in caplog.text
    first, second = whole.splitlines()
    file.path.write_bytes(first[:40] + b"\n" + second + b"\n")  # an editor has mended the end, but not the line
    result = selfie("labels")
    assert result.exit_code == 2
    assert f"{file.path}, row 1: it is no label" in said(result)
    assert file.path.read_bytes() == first[:40] + b"\n" + second + b"\n"


def test_a_pair_labelled_twice_counts_where_both_labels_say_the_same(file: LabelFile, selfie, make_label):
    file.open()
    file.append(make_label(0, "response_1"))
    file.append(make_label(1, "response_2"))
    file.close()
    result = selfie("labels")
    assert result.exit_code == 0, result.output
    assert "1 preferences: " in said(result)
    assert "1 disagreements: " in said(result)
    assert "Pairs that were labelled in two ways are in no other file." in said(result)


def test_a_port_in_use_and_a_file_in_use_are_named(file: LabelFile, selfie):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = selfie("label", "--annotator", "ana", "--port", port)
        assert result.exit_code == 2
        assert f"port {port} of 127.0.0.1: another program uses it → stop that program, or choose" in said(result)
        file.open()
        result = selfie("label", "--annotator", "ana", "--port", port)
    assert result.exit_code == 4
    assert "another process writes ana's labels: pid " in said(result)
    assert "go on in its page or stop it, or name another annotator (--annotator NAME)" in said(result)
    file.close()
    assert len(read_labels(file.path)) == 2


def test_an_export_comes_beside_the_merged_files(file: LabelFile, selfie, tmp_path: Path):
    result = selfie("labels", "--export", "hh", str(tmp_path / "hh.jsonl"))
    assert result.exit_code == 0, result.output
    assert f"2 preferences as hh: {tmp_path}/hh.jsonl" in said(result)
    assert "\n\nHuman: Question 0?\n\nAssistant: Yes 0." in [
        json.loads(line)["chosen"] for line in (tmp_path / "hh.jsonl").read_text().splitlines()
    ]
    result = selfie("labels", "--export", "hh", str(tmp_path / "hh.jsonl"))
    assert result.exit_code == 2
    assert "there is a file already" in said(result)
    assert selfie("labels", "--export", "csv", str(tmp_path / "pairs.csv")).exit_code == 2
