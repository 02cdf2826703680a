"""A whole run that is killed again and again ends as if it had not been: the short version of ``make chaos``."""

from pathlib import Path

import pytest

import chaos


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_killed_runs_end_like_uninterrupted_ones(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("SELFIE_ITERATIONS", "1")  # restored afterwards: the harness sets it
    report = chaos.run(kills=3, first_seed=1, folder=tmp_path, iterations=1, worlds=1)
    assert report["kills"] >= 3
    assert report["different"] == []
    assert report["identical"]
    assert report["committed_shards"] > 20
    assert report["recomputed"] == []


def test_the_harness_notices_what_is_lost(tmp_path: Path):
    """A byte that differs, a file that is missing, a file that is too much."""
    for world in ("tormented", "peaceful"):
        for room in ("a", "b"):
            file = tmp_path / world / f"03_primary/test/{room}/responses/data.arrow"
            file.parent.mkdir(parents=True)
            file.write_text("same")
    assert chaos.differences(tmp_path / "tormented", tmp_path / "peaceful") == []
    (tmp_path / "tormented/03_primary/test/a/responses/data.arrow").write_text("sama")
    (tmp_path / "peaceful/03_primary/test/b/responses/data.arrow").unlink()
    assert len(chaos.differences(tmp_path / "tormented", tmp_path / "peaceful")) == 2
