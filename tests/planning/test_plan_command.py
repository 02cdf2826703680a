"""``selfie plan`` as it is typed; it reads the configuration of a run, and loads and writes nothing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from kedro.framework.startup import bootstrap_project

from runs import PROJECT
from selfie.models.checkpoint import Checkpoint
from selfie.planning import this_machine


@pytest.fixture(autouse=True)
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """In the project's folder, with data elsewhere; nothing that is read has weights."""
    monkeypatch.chdir(PROJECT)
    monkeypatch.setenv("SELFIE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(Checkpoint, "load_model", lambda *_: pytest.fail("a model was loaded"))
    monkeypatch.setattr(this_machine, "PROBE_SECONDS", 0.01)
    bootstrap_project(PROJECT)
    yield
    assert not (tmp_path / "data").exists()


def plan(*options: str) -> Result:
    from selfie.cli import cli

    return CliRunner().invoke(cli, ["plan", *options])


def as_json(*options: str) -> dict[str, Any]:
    result = plan(*options, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_paper_on_eight_gpus_by_configuration_alone():
    said = as_json("--env", "paper", "--hardware", "h100", "--devices", "8", "--price", "2.5")
    assert said["parameters"] == 7_241_732_096
    stages = {(row["namespace"], row["stage"]): row for row in said["stages"]}
    assert set(stages) >= {("seeding", "training"), *((f"iteration_{k}", "generation") for k in (1, 2, 3))}
    drawn = [stages[f"iteration_{k}", "generation"]["tokens"] for k in (1, 2, 3)]
    assert drawn == pytest.approx([2 * prompts * (150 + 300) for prompts in (8000, 20000, 30000)])
    assert said["total"]["dollars"] == pytest.approx(said["total"]["seconds"] / 3600 * 8 * 2.5)
    assert said["problems"][0].startswith("training does not fit")
    assert any("805 rows of evaluation_prompts" in line for line in said["assumptions"])


def test_an_environment_of_ones_own_is_read_with_its_data(own_project: Path):
    """Eight seed pairs of 7 and 3 characters, four to a token and an end each; prompts of 11 in a template of 25."""
    said = as_json("--env", "mine", "--conf-source", str(own_project / "conf"), "--hardware", "l4")
    assert said["parameters"] == Checkpoint(str(own_project / "model")).weights()
    tokens = {(row["namespace"], row["stage"]): row["tokens"] for row in said["stages"]}
    prompt, response = 25 + 11 / 4, 1 + 5 / 4
    assert tokens["initial", "evaluation"] == pytest.approx(6 * (prompt + response))
    assert tokens["seeding", "training"] == pytest.approx(3 * 8 * (prompt + 2 * response))
    assert said["strategies"][0]["fits"]


def test_params_of_the_command_line_count():
    few = as_json("--env", "paper", "--hardware", "h100", "--params", "iterations=1,prompts_per_iteration=[1000]")
    many = as_json("--env", "paper", "--hardware", "h100", "--params", "iterations=1,prompts_per_iteration=[100000]")
    assert {row["namespace"] for row in few["stages"]} == {"initial", "seeding", "iteration_1", ""}
    drawn = [next(r for r in said["stages"] if r["stage"] == "generation" and r["namespace"]) for said in (few, many)]
    assert drawn[1]["flops"] == pytest.approx(100 * drawn[0]["flops"])


def test_another_model_by_its_configuration_and_this_machine_as_a_table():
    result = plan("benchmarks/models/smollm2-1.7b.json", "--env", "test")
    assert result.exit_code == 0, result.output
    assert "1.7 G weights: 1 × " in result.output
    assert "LoRA of rank 16" in result.output
    assert "Most time: " in result.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--hardware", "tpu"), "--hardware: there is no 'tpu' in the list"),
        (("--devices", "0"), "Invalid value for '--devices'"),
        (("--devices", "2"), "is one device: all cores of this machine"),
        (("--hardware", "h100", "--devices", "500"), "500 devices for at most 96 responses an iteration"),
        (("docs", "--hardware", "h100"), "the folder has no config.json"),
        (("nobody/nothing", "--hardware", "h100"), "name a model of the catalog"),
        (("--params", "training.batch_siez=3"), "did you mean batch_size?"),
        (("--price", "-1"), "Invalid value for '--price'"),
    ],
)
def test_what_can_not_be_planned_is_said(options: tuple[str, ...], said: str):
    result = plan("--env", "test", *options)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
    assert "Traceback" not in result.output
