"""Plan against run: what is compared, and the command on a run that was really made."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import plan_error
from runs import PROJECT
from selfie.planning import this_machine

TIMINGS = {
    "split_prompts": {"namespace": None, "stage": "generation", "seconds": 1.0, "peak_rss_gib": 0.5},
    "seeding.tokenize_pairs": {"namespace": "seeding", "stage": "training", "seconds": 2.0, "peak_rss_gib": 0.5},
    "seeding.train_policy": {"namespace": "seeding", "stage": "training", "seconds": 4.0, "peak_rss_gib": 0.8},
}


def test_steps_add_up_to_stages():
    assert plan_error.measured_stages(TIMINGS) == {("", "generation"): 1.0, ("policy_0", "training"): 6.0}


def test_a_summary_has_the_same_stages():
    seconds = {"training": 6.0, "judging": None}
    assert plan_error.measured_stages({"iterations": [{"name": "policy_0", "seconds": seconds}]}) == {
        ("policy_0", "training"): 6.0
    }


class Planned:
    """What a plan says, as far as it is compared."""

    seconds = 14.0
    steps: tuple = ()

    class hardware:  # noqa: N801
        source = "the test's"

    def stages(self) -> list[dict[str, Any]]:
        return [{"namespace": "seeding", "stage": "training", "seconds": 9.0}]

    def summed(self, _: Any) -> dict[str, Any]:
        return {"peak_bytes": 2**30}


@pytest.mark.parametrize(("seconds", "error"), [(14.0, 2.0), (3.5, 2.0), (7.0, 1.0)])
def test_errors_by_hand(seconds: float, error: float):
    """7 seconds and 0.8 GiB in the run: twice as many and half as many are as wrong; 1 GiB is a quarter more."""
    plan: Any = Planned()
    plan.seconds = seconds
    result = plan_error.compared(plan, TIMINGS)
    assert result["plan_time_error"] == error
    assert result["plan_memory_error"] == 0.25
    assert {"namespace": "policy_0", "stage": "training", "planned": 9.0, "run": 6.0} in result["stages"]
    assert "| policy_0 | training | 9.0 | 6.0 | 1.50 |" in plan_error.page(result)


def test_the_command_on_a_finished_run(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(PROJECT)
    monkeypatch.setenv("SELFIE_DATA", str(finished_run))
    monkeypatch.setattr(this_machine, "PROBE_SECONDS", 0.01)
    monkeypatch.setattr(plan_error.logging, "disable", lambda _: None)
    command = ["--env", "test", "--results", str(tmp_path)]
    outcome = CliRunner().invoke(plan_error.main, command, catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    (file,) = tmp_path.glob("*-plan.json")
    result = json.loads(file.read_text())["test"]
    assert result["plan_time_error"] >= 1
    assert result["plan_memory_error"] >= 0
    stages = {(row["namespace"], row["stage"]) for row in result["stages"]}
    assert {("policy_2", "training"), ("policy_1", "judging"), ("initial", "evaluation")} <= stages
    trained = next(row for row in result["stages"] if (row["namespace"], row["stage"]) == ("policy_2", "training"))
    assert trained["planned"] > 0
    assert "plan_time_error" in outcome.output
