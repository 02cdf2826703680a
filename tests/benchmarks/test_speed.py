"""The benchmark programme, whole, on a tiny model: every part runs, and both sides do the same work."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.speed import flops, ours, results, rivals
from benchmarks.speed import programme as bench
from benchmarks.speed.workload import Loaded, Setting, Workload, make_workload
from selfie.models.checkpoint import Checkpoint
from selfie.synthetic.language import all_prompts


@pytest.fixture(scope="module", autouse=True)
def without_vllm() -> Iterator[None]:
    """As if it weren't there: its attention is too wide for so small a model."""
    find = importlib.util.find_spec
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "vllm" else find(name, *rest))
        yield


@pytest.fixture(scope="module")
def setting(without_vllm: None, tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    folder = tmp_path_factory.mktemp("bench")
    file = folder / "prompts.jsonl"
    file.write_text(
        "\n".join(json.dumps({"messages": [{"role": "user", "content": prompt}]}) for prompt in all_prompts()[:9])
    )
    setting = Setting(tiny_checkpoint.source, str(file), 9, 12, 512, str(folder))
    make_workload(setting)
    return setting


def test_both_sides_score_the_same(setting: Setting):
    """Ours and the padded pass give the same log-probs in float32, whatever the batch."""
    workload, checkpoint = Workload.load(setting), Loaded(setting.model)
    assert len(workload.responses) == 36
    expected = ours.judge(setting, checkpoint, workload)
    for batch in (1, 4):
        assert rivals.judge_padded(setting, checkpoint, workload, batch) == pytest.approx(expected, abs=1e-3)


def test_needed_arithmetic_by_hand(setting: Setting):
    """Prompts 3 and responses 2 and 4, of one prompt: 9 tokens, 6 answers, 6 + (6 + 3) + (12 + 10) pairs.

    The weights are 2 layers of 4·32² + 3·32·64, the head 77·32.
    """
    workload = Workload([[1, 2, 3]] * 2, [[4, 5], [6, 7, 8, 9]])
    expected = 2 * (9 * 2 * (4 * 32**2 + 3 * 32 * 64) + 6 * 77 * 32) + 4 * 32 * 2 * (6 + 9 + 22)
    assert flops.forward_flops(setting, workload) == expected


def test_the_fastest_batch_counts_and_medians_are_compared():
    def run(*seconds: float) -> list[dict]:
        return [{"seconds": s, "tokens": 100, "peak_memory": 10 * s, "details": {}} for s in seconds]

    runs = {"judging/ours": run(1.0, 2.0, 9.0), "judging/padded@1": run(8.0), "judging/padded@4": run(5.0, 4.0, 60.0)}
    runs |= {"training/ours": run(2.0), "training/trl@2": run(4.0), "training/trl@1": run(6.0)}
    runs["limit/judging"] = [{"seconds": 1.0, "tokens": 1, "peak_memory": 1, "details": {"flops_per_second": 50.0}}]
    values = results.ratios(runs, {"judging": 20.0, "training": 5.0})
    assert values["judging_vs_best_fixed_batch"] == 2.5  # 5.0 over 2.0
    assert values["judging_vs_padded_bs1"] == 4.0
    assert values["judging_mfu"] == 0.4  # two passes of 20 in 2 seconds, of 50 a second
    assert values["training_vs_trl"] == 2.0
    assert values["peak_memory_vs_trl"] == 0.5
    assert values["generation_vs_hf"] is None
    assert bench.fastest(runs, "judging/padded") == 4


def test_the_plans_largest_errors_count(tmp_path: Path):
    runs = {
        "a": {"plan_time_error": 1.2, "plan_memory_error": 0.3},
        "b": {"plan_time_error": 1.4, "plan_memory_error": 0},
    }
    (tmp_path / "plan.json").write_text(json.dumps(runs))
    assert results.plan_errors(tmp_path / "plan.json") == {"plan_time_error": 1.4, "plan_memory_error": 0.3}
    assert results.plan_errors(tmp_path / "none.json") == dict.fromkeys(results.PLAN)


KEYS = [
    "generation_vs_hf",
    "generation_vs_vllm",
    "judging_vs_padded_bs1",
    "judging_vs_best_fixed_batch",
    "judging_mfu",
    "training_vs_trl",
    "training_vs_trl_precompute",
    "training_mfu",
    "iteration_vs_stock",
    "iteration_vs_stock_hf",
    "peak_memory_vs_trl",
    "generation_2_workers_vs_1",
    "judging_2_workers_vs_1",
    "plan_time_error",
    "plan_memory_error",
]


def test_every_part_runs_and_is_written(setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In this process instead of a new one each."""
    monkeypatch.setattr(bench, "in_a_process", lambda measure, *arguments, **_: measure(*arguments))
    monkeypatch.setattr(bench.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(flops, "SECONDS", 0.01)
    for name in ("TQDM_DISABLE", "TRANSFORMERS_VERBOSITY", "VLLM_LOGGING_LEVEL", "VLLM_ENABLE_V1_MULTIPROCESSING"):
        monkeypatch.setenv(name, "1" if name == "TQDM_DISABLE" else "error")
    options = ["--model", setting.model, "--prompts-file", setting.prompts_file, "--results", str(tmp_path)]
    options += ["--prompts", "4", "--max-new-tokens", "6", "--batch-tokens", "512", "--rounds", "1"]
    for part in ("limit,judging", "generation,training,iteration,generation_workers,judging_workers"):
        outcome = CliRunner().invoke(bench.main, [*options, "--only", part], catch_exceptions=False)
        assert outcome.exit_code == 0
    (file,) = tmp_path.glob("*.json")
    written = json.loads(file.read_text())
    assert [key for key in written if key in KEYS] == KEYS
    without_vllm = {"generation_vs_vllm", "iteration_vs_stock"}
    assert {key for key in KEYS if written[key] is None} == without_vllm | set(results.PLAN)
    assert all("make bench-plan" in written["missing"][key] for key in results.PLAN)
    assert all("vLLM is not installed" in written["missing"][key] for key in without_vllm)
    assert all(written[key] >= 0 for key in ("judging_mfu", "training_mfu"))  # of so small a model rounded to nothing
    assert all(written[key] > 0 for key in set(KEYS) - without_vllm - {"judging_mfu", "training_mfu", *results.PLAN})
    page = file.with_suffix(".md").read_text()
    assert all(f"| {key} |" in page for key in KEYS)


def library_caches() -> list[str]:
    return [os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"], os.environ["LRU_CACHE_CAPACITY"]]


def test_only_ours_runs_with_the_projects_settings(monkeypatch: pytest.MonkeyPatch):
    """This module imports the project, in the new process too."""
    for name in bench.STOCK:
        monkeypatch.delenv(name, raising=False)
    assert bench.in_a_process(library_caches) == ["64", "64"]
    assert bench.in_a_process(library_caches, environment=bench.STOCK) == ["1024", "1024"]
    assert [c.is_ours for c in bench.contestants("training", True, {})] == [True, False, False]


def test_a_contestant_runs_in_a_process_of_its_own(setting: Setting, tmp_path: Path):
    """As `make bench` starts it: what it measures with must be found by a process that starts afresh."""
    name = bench.workload_name(setting.model, setting.prompts_file, 9, 12)
    workload = tmp_path / f"selfie-bench-{os.getuid()}" / name / "workload.json"
    workload.parent.mkdir(parents=True)
    workload.write_text(setting.file.read_text())
    command = [sys.executable, "-m", "benchmarks.speed", "--only", "training", "--rounds", "1", "--prompts", "9"]
    command += ["--model", setting.model, "--prompts-file", setting.prompts_file, "--results", str(tmp_path)]
    command += ["--max-new-tokens", "12", "--batch-tokens", "512"]
    subprocess.run(command, check=True, timeout=600, env={**os.environ, "TMPDIR": str(tmp_path)})
    (file,) = tmp_path.glob("*.json")
    assert json.loads(file.read_text())["training_vs_trl"] > 0
