"""The page on scaling shows what the command prints today."""

import pytest
from click.testing import CliRunner

from benchmarks import scaling
from runs import PROJECT


@pytest.mark.parametrize("batch_size", ["32", "512"])
def test_the_pages_tables_are_the_commands(batch_size: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(PROJECT)
    monkeypatch.setattr(scaling.logging, "disable", lambda _: None)
    outcome = CliRunner().invoke(scaling.main, ["--batch-size", batch_size], catch_exceptions=False)
    rows = [line for line in outcome.output.splitlines() if line.startswith("|")]
    assert len(rows) == 2 * (2 + len(scaling.MODELS) * len(scaling.DEVICES)) + 2 + 2 * len(scaling.MODELS)
    page = (PROJECT / "docs/scaling.md").read_text()
    assert [row for row in rows if row not in page] == []
