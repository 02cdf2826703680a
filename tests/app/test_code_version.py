"""The code's version changes with what the code does, where the node can reach it, and with nothing else."""

import shutil
from pathlib import Path

import pytest

from selfie.app import code_version as module
from selfie.app.code_version import code_version
from selfie.pipelines.judging.nodes import judge_responses
from selfie.pipelines.training.nodes import train_policy


@pytest.fixture
def source(tmp_path: Path, monkeypatch) -> Path:
    """A copy of the package's source that may be edited."""
    shutil.copytree(module.ROOT, tmp_path / "selfie")
    monkeypatch.setattr(module, "ROOT", tmp_path / "selfie")
    return tmp_path / "selfie"


def version(function) -> dict[str, str]:
    module._read.cache_clear()
    module._version_of.cache_clear()
    return code_version(function)


def edit(file: Path, before: str, after: str, count: int = -1) -> None:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after, count))


def test_a_node_reaches_what_it_imports_at_any_depth(source: Path):
    reached = version(train_policy)
    assert {
        "selfie.pipelines.training.nodes",
        "selfie.preference.noise_detection",
        "selfie.preference.losses",
    } <= reached.keys()
    assert not any(name.startswith(("selfie.reporting", "selfie.tracking", "selfie.synthetic")) for name in reached)
    assert "selfie.synthetic.language" in version(judge_responses)  # imported inside a function


def test_what_the_code_does_makes_its_node_stale_and_no_other(source: Path):
    training, judging = version(train_policy), version(judge_responses)
    edit(source / "preference" / "noise_detection.py", "def threshold(", "def other_threshold(")
    after = version(train_policy)
    assert {name for name in after if after[name] != training[name]} == {"selfie.preference.noise_detection"}
    assert version(judge_responses) == judging


def test_comments_docstrings_and_line_breaks_do_not_count(source: Path):
    before = version(train_policy)
    noise = source / "preference" / "noise_detection.py"
    edit(noise, '"""', '"""Said in other words. ', 1)  # the module's docstring
    edit(noise, "Args:", "Arguments:")  # the class's
    noise.write_text(f"# a comment\n\n\n{noise.read_text()}")
    assert version(train_policy) == before
