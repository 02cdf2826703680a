"""The study for real, in conf/test: it runs what is missing and nothing else."""

import json
import shutil
import sys
from pathlib import Path

import mlflow
import pytest

from benchmarks.method_comparison.study import _run_seed, run_study
from selfie.storage.commit import is_committed

PROJECT = Path(__file__).parents[2]
METHODS = ["initial", "seed_dpo"]
SEED = 3


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy, whose configuration can be changed, with an even smaller language."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("src", "conf"):
        shutil.copytree(PROJECT / name, folder / name)
    shutil.copy(PROJECT / "pyproject.toml", folder)
    parameters = folder / "conf/test/parameters.yml"
    smaller = parameters.read_text().replace("corpus: 1280", "corpus: 128")
    parameters.write_text(smaller.replace("evaluation_prompts: 24", "evaluation_prompts: 8"))
    monkeypatch.setattr(sys, "path", sys.path.copy())  # Kedro adds the copy's source
    monkeypatch.setenv("PYTHONPATH", str(folder / "src"))
    return folder


def test_only_what_is_missing_or_changed_runs(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """First two methods; then again, and one of them has other parameters."""
    data, tracking = tmp_path / "data", f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("SELFIE_DATA", str(data))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    first = {record["method"]: record for record in run_study(project, data, [SEED], METHODS, workers=1, env="test")}

    assert list(first) == METHODS
    files = {method: data / f"08_reporting/test/runs/{method}_{SEED}.json" for method in METHODS}
    for method, record in first.items():
        assert is_committed(files[method])
        assert json.loads(files[method].read_text()) == record
        assert record["seed"] == SEED
        assert record["seconds"] > 0
        assert [row["name"] for row in record["summary"]["iterations"]] == ["initial", "policy_0"]
    figures = ("win_rate", "gold_score", "avg_length")
    one, other = ([[row[f] for f in figures] for row in first[m]["summary"]["iterations"]] for m in METHODS)
    assert one == other  # the same language, model and seeds
    assert first["initial"]["fingerprint"] != first["seed_dpo"]["fingerprint"]
    experiments = {experiment.name for experiment in mlflow.MlflowClient(tracking).search_experiments()}
    assert experiments >= {f"test_{SEED}_{method}" for method in METHODS}

    files["initial"].unlink()  # as if the study had been killed before it took the result down
    (resumed,) = _run_seed(project, data, "test", SEED, ["initial"])
    assert resumed == first["initial"]  # its seconds, too: nothing ran
    assert "steps were committed and fresh" in (data / f"08_reporting/test/runs/initial_{SEED}.log").read_text()

    before = {method: file.stat().st_mtime_ns for method, file in files.items()}
    methods = project / "conf/test/methods.yml"
    methods.write_text(methods.read_text() + "\nseed_dpo:\n  iterations: 0\n  beta: 0.5\n")
    capsys.readouterr()
    again = {record["method"]: record for record in _run_seed(project, data, "test", SEED, METHODS)}  # no new process
    said = capsys.readouterr().out
    assert f"seed_dpo, seed {SEED}: " in said
    assert f"initial, seed {SEED}: " not in said
    assert again["initial"] == first["initial"]
    assert files["initial"].stat().st_mtime_ns == before["initial"]
    assert files["seed_dpo"].stat().st_mtime_ns > before["seed_dpo"]
    assert again["seed_dpo"]["fingerprint"] != first["seed_dpo"]["fingerprint"]
