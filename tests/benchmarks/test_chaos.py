"""A whole run that is killed again and again ends as if it had not been: the short version of ``make chaos``."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks import chaos


def test_killed_runs_end_like_uninterrupted_ones():
    """In a process of its own: the harness forks, and pytest has threads."""
    options = ["--env=test", "--kills=3", "--seed=1", "--iterations=1", "--runs=1", "--print-only"]
    command = [sys.executable, chaos.__file__, *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    report = json.loads(ended.stdout[ended.stdout.index("{\n") :])
    assert report["kills"] >= 3
    assert report["different"] == []
    assert report["identical"]
    assert report["committed_shards"] > 20
    assert report["recomputed"] == []
    assert report["inside_saves"]


def test_the_harness_notices_what_is_lost(tmp_path: Path):
    """A byte that differs, a file that is missing, a file that is too much."""
    for run in ("tormented", "peaceful"):
        for namespace in ("a", "b"):
            file = tmp_path / run / f"03_primary/test/{namespace}/responses/data.arrow"
            file.parent.mkdir(parents=True)
            file.write_text("same")
    assert chaos.differences(tmp_path / "tormented", tmp_path / "peaceful") == []
    (tmp_path / "tormented/03_primary/test/a/responses/data.arrow").write_text("sama")
    (tmp_path / "peaceful/03_primary/test/b/responses/data.arrow").unlink()
    assert len(chaos.differences(tmp_path / "tormented", tmp_path / "peaceful")) == 2
