"""``kedro run`` goes on where it stopped: it repeats what is stale, says why, and leaves the rest alone."""

import io
import json
import logging
import multiprocessing
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project
from rich.console import Console

from runs import PROJECT, run, session
from selfie.app.status import status_table
from selfie.storage import rows
from selfie.storage.commit import verify
from selfie.training import trainer


def snapshot(run_data: Path) -> dict[Path, int]:
    """Every artefact's time of change; lock and tracking are no artefacts."""
    files = [file for file in run_data.rglob("*") if file.is_file() and file.name != ".lock"]
    return {file: file.stat().st_mtime_ns for file in files if "mlflow" not in str(file.relative_to(run_data))}


def weights(run_data: Path) -> dict[str, int]:
    return {
        file.parent.name: file.stat().st_mtime_ns for file in (run_data / "06_models/test").glob("*/model.safetensors")
    }


def status(**parameters) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    with session(**parameters) as opened:
        console.print(status_table(opened.load_context().catalog))
    return console.export_text()


def row(table: str, namespace: str, stage: str) -> str:
    (line,) = (line for line in table.splitlines() if f" {namespace} " in line and f" {stage} " in line)
    return line


def test_a_finished_run_has_nothing_to_do(run_data: Path, executed):
    before = snapshot(run_data)
    run()
    assert executed() == {}
    assert snapshot(run_data) == before
    table = status()
    assert " done " in table
    assert not any(word in table for word in ("stale", "partial", "missing"))
    assert "judged in float32: 100.0% of the labels as in float32" in row(table, "iteration_1", "judging")


def test_a_changed_parameter_repeats_what_takes_it(run_data: Path, executed):
    before = weights(run_data)
    changed = {"evaluation": {"bootstrap_samples": 100}}
    assert "evaluation.bootstrap_samples was 200, is 100" in row(status(**changed), "seeding", "evaluation")
    assert "done" in row(status(**changed), "iteration_2", "training")
    assert "initial.evaluation will be made anew" in row(status(**changed), "–", "reporting")
    run(**changed)
    ran = executed()
    assert ran["iteration_2.measure"] == "evaluation.bootstrap_samples was 200, is 100"
    assert "evaluation has changed" in ran["summarise"]
    assert not any("train_policy" in name or "score" in name for name in ran)
    assert weights(run_data) == before
    run(**changed)
    assert executed() == {}


def test_another_annotator_reads_the_answers_that_are_there(run_data: Path, executed):
    """Only what reads the parameter runs: nothing is sampled again."""
    run(evaluation={"annotator": "none"})
    ran = executed()
    assert ran["seeding.annotate_outputs"] == "evaluation.annotator was gold, is none"
    assert not any("generate" in name or "train" in name for name in ran)


def test_one_more_prompt_plan_leaves_finished_iterations_alone(run_data: Path, executed):
    """split_prompts runs again; iteration 1 gets the same prompts as before and stays fresh."""
    before = weights(run_data)
    run(prompts_per_iteration=[32, 40])
    ran = executed()
    assert ran["iteration_2.generate_responses"] == "iteration_2.prompts has changed"
    assert not any(name.startswith(("iteration_1", "seeding")) for name in ran)
    after = weights(run_data)
    assert {name for name in after if after[name] != before[name]} == {"policy_2"}


def test_a_lost_artefact_is_made_again_and_what_follows_stays_fresh(run_data: Path, executed):
    """The same bytes come again, so nothing after them has to run."""
    shutil.rmtree(run_data / "05_model_input/test/iteration_1/pairs")
    assert "missing" in row(status(), "iteration_1", "judging") or "partial" in row(status(), "iteration_1", "judging")
    run()
    assert executed() == {"iteration_1.judge_responses": "iteration_1.pairs is not there"}


def test_an_artefact_of_unknown_origin_is_made_again(run_data: Path, executed):
    """A file that somebody has put in its place, even if the manifest was made to agree."""
    from selfie.storage.commit import commit_file

    labels = run_data / "08_reporting/test/iteration_2/labels.json"
    commit_file(labels, lambda new: new.write_text("{}") and None)
    assert "nothing is recorded of how iteration_2.labels was made" in row(status(), "iteration_2", "evaluation")
    run()
    assert set(executed()) == {"iteration_2.audit_pairs"}
    assert labels.read_text() != "{}"


def test_loop_and_external_outputs_share_a_leaderboard(run_data: Path, executed, tmp_path: Path):
    """Neither makes the other's rows stale; rows of other external outputs join them."""
    asked = json.loads((run_data / "07_model_output/test/initial/model_outputs.json").read_text())

    def external_outputs(name: str) -> str:
        rows = [{"instruction": row["instruction"], "output": "w01 w02", "generator": name} for row in asked]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
        return str(tmp_path / f"{name}.json")

    for name in ("first", "second"):
        run("evaluate_outputs", model_outputs=external_outputs(name))
        assert "external.rank" in executed()
        assert "stale" not in status()
        run()
        assert executed() == {}
    run("reporting", "evaluation", evaluation={"bootstrap_samples": 100})
    assert "rank" not in executed()
    (run_data / "07_model_output/test/iteration_2/annotations.json").unlink()
    run()
    assert "iteration_2.annotate_outputs" in executed()
    run("evaluate_outputs", model_outputs=external_outputs("second"))
    assert executed() == {}
    board = (run_data / "08_reporting/test/leaderboard.csv").read_text()
    assert all(f"\n{name}," in board for name in ("first", "second", "policy_0", "policy_1", "policy_2"))


def test_runs_that_start_at_once_make_what_they_share_once(tmp_path: Path, empty_database: Path):
    """Two processes, two experiments, one language and one initial model: the one waits for the other."""
    start = multiprocessing.get_context("fork").Barrier(2)
    for name in ("one", "two"):
        shutil.copy(empty_database, tmp_path / f"{name}.db")

    def prepare(name: str) -> None:
        os.environ |= {"SELFIE_DATA": str(tmp_path), "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/{name}.db"}
        for logger in ("selfie.app.runner", "selfie.storage.locks"):
            logging.getLogger(logger).setLevel(logging.INFO)
            logging.getLogger(logger).addHandler(logging.FileHandler(tmp_path / f"{name}.log"))
        start.wait(60)
        run("preparation", experiment=name)

    children = [multiprocessing.get_context("fork").Process(target=prepare, args=(name,)) for name in ("one", "two")]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    log = "".join((tmp_path / f"{name}.log").read_text() for name in ("one", "two"))
    assert [child.exitcode for child in children] == [0, 0], log
    assert log.count("make_language: ") == log.count("pretrain_model: ") == 1
    assert "waiting for it" in log
    assert "steps were committed and fresh and were skipped" in log
    verify(tmp_path / "06_models/test/seed_0/initial_model")
    assert not list((tmp_path / "06_models/test/seed_0/.workspace").iterdir())


def test_fresh_repeats_everything_that_was_asked_for(run_data: Path, executed, monkeypatch):
    from selfie.cli import run as command

    monkeypatch.chdir(PROJECT)
    bootstrap_project(PROJECT)
    before = (run_data / "05_model_input/test/iteration_1/pairs/data-00000-of-00001.arrow").read_bytes()
    result = CliRunner().invoke(command, ["--env", "test", "--pipelines", "judging", "--fresh"], catch_exceptions=False)
    assert result.exit_code == 0
    steps = ("measure_precision", "score_responses", "judge_responses")
    assert set(executed()) == {f"iteration_{k}.{step}" for k in (1, 2) for step in steps}
    assert (run_data / "05_model_input/test/iteration_1/pairs/data-00000-of-00001.arrow").read_bytes() == before
    result = CliRunner().invoke(command, ["--env", "test"], catch_exceptions=False)
    assert executed() == {}


@pytest.mark.usefixtures("run_data")
def test_the_status_command_takes_the_parameters_of_a_run(monkeypatch):
    from selfie.cli import status

    monkeypatch.chdir(PROJECT)
    bootstrap_project(PROJECT)
    for parameters, stale in ((["--params", "beta=0.3"], True), ([], False)):
        result = CliRunner().invoke(status, ["--env", "test", *parameters], catch_exceptions=False)
        assert ("stale" in row(result.output, "iteration_1", "training")) == stale


def test_status_knows_what_is_half_done(run_data: Path, monkeypatch):
    """The run dies in the second shard of the judging, and in the training's fourth step."""
    shutil.rmtree(run_data / "04_feature/test/iteration_1/scored_responses")
    commit_folder, calls = rows.commit_folder, []

    def dying(path, write, provenance):
        if len(calls) == 5:
            raise KeyboardInterrupt
        calls.append(path)
        commit_folder(path, write, provenance)

    monkeypatch.setattr(rows, "commit_folder", dying)
    with pytest.raises(KeyboardInterrupt):
        run("judging")
    line = row(status(), "iteration_1", "judging")
    assert "partial" in line
    assert "1/4 shards" in line
    assert "4/4 shards" in line
    changed = row(status(judging={"shard_rows": 8}), "iteration_1", "judging")
    assert "partial" not in changed  # made in other batches: they do not count


def test_superseded_checkpoints_are_kept_until_the_training_is_done(run_data: Path, monkeypatch, caplog):
    """A training dies after its checkpoint, one with another parameter before; the first goes on from where it was."""
    caplog.set_level(logging.INFO)
    seal = trainer.seal_checkpoint

    def die(folder: Path, state: dict) -> None:
        if os.environ["DIES"] == "after":
            seal(folder, state)
        raise KeyboardInterrupt

    scratch = run_data / "06_models/test/.workspace_iteration_1/train_policy"
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "seal_checkpoint", die)
        for dies, learning_rate in (("after", 1e-4), ("before", 3e-4)):
            patch.setenv("DIES", dies)
            with pytest.raises(KeyboardInterrupt):
                run("training", training={"learning_rate": learning_rate})
    assert "unfinished work from other inputs is kept until this is done: 2/4 optimiser steps, " in caplog.text
    assert "superseded, kept: 2/4 optimiser steps, " in " ".join(status(training={"learning_rate": 3e-4}).split())
    assert "partial 2/4 optimiser steps" in row(status(training={"learning_rate": 1e-4}), "iteration_1", "training")
    run("training", training={"learning_rate": 1e-4})
    assert "training goes on from checkpoint-2" in caplog.text
    assert not scratch.exists()


def test_a_finished_training_leaves_anothers_checkpoints(run_data: Path, monkeypatch):
    """What is done with the old parameter is skipped; the unfinished training with the new one can still go on."""
    seal = trainer.seal_checkpoint

    def die(folder: Path, state: dict) -> None:
        seal(folder, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "seal_checkpoint", die)
        with pytest.raises(KeyboardInterrupt):
            run("training", training={"learning_rate": 1e-4})
    run()
    assert "partial 2/4 optimiser steps" in row(status(training={"learning_rate": 1e-4}), "iteration_1", "training")
