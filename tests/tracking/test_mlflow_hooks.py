"""The revision that runs are tagged with."""

from pathlib import Path

import pytest

from runs import PROJECT
from selfie.tracking.mlflow_hooks import _git_commit


def test_a_run_needs_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Containers have none; a folder may be no repository."""
    assert _git_commit(tmp_path) == ""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _git_commit(PROJECT) == ""
