"""The study of the demo's task: figures from records made by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.method_comparison import style_guide
from benchmarks.method_comparison.study import begin_with
from configuration import parameters

GOOD = "Bees make honey from the nectar of flowers, which they store in their hive for the winter."
ASKED = "How do bees make honey?"


def policy(name: str, share: float, label_accuracy: float | None = None) -> dict:
    checks = {"own_content": 0.5, "on_topic": 1.0}
    figures = dict.fromkeys(style_guide.FIGURES, 0.25)
    return {
        "name": name,
        "style_guide": {"share": share, "checks": checks},
        "label_accuracy": label_accuracy,
        **figures,
    }


def record(method: str, seed: int, *shares: float) -> dict:
    policies = [policy(f"policy_{k}", share, 0.75 if k else None) for k, share in enumerate(shares)]
    return {"method": method, "seed": seed, "summary": {"iterations": [policy("initial", 0.0), *policies]}}


@pytest.fixture
def results(tmp_path: Path) -> dict:
    """Two seeds, two prompts: no answer of seed_dpo follows the guide, of spa one for seed 1 and both for seed 2."""
    answers = {"1_seed_dpo/seeding": 0, "2_seed_dpo/seeding": 0, "1_spa/iteration_1": 1, "2_spa/iteration_1": 2}
    for name, good in answers.items():
        file = tmp_path / "07_model_output" / f"language_{name}" / "model_outputs.json"
        file.parent.mkdir(parents=True)
        outputs = [GOOD] * good + ["1. Honey"] * (2 - good)
        file.write_text(json.dumps([{"instruction": ASKED, "output": output} for output in outputs]))
    records = [record("spa", 2, 0.0, 1.0), record("spa", 1, 0.5, 0.5), *(record("seed_dpo", k, 0.0) for k in (1, 2))]
    return style_guide.collect(tmp_path, "language", records, ["seed_dpo", "spa"], parameters("language").gold)


def test_one_entry_a_seed_in_the_order_of_seeds(results: dict):
    assert results["seeds"] == [1, 2]
    spa = results["methods"]["spa"]
    assert spa["shares"] == [[0.5, 0.5], [0.0, 1.0]]
    assert spa["follows"] == [[1, 0], [1, 1]]
    assert spa["label_accuracy"] == [[0.75], [0.75]]
    assert results["methods"]["seed_dpo"]["label_accuracy"] == [[], []]


def test_the_tables_cells(results: dict):
    seeded, spa = style_guide.rows(results)
    assert all(len(cells) == len(style_guide.COLUMNS) for cells in (seeded, spa))
    assert seeded[:4] == ["seed_dpo", "0.0 [0.0, 0.0]", "0.0 0.0", "0.0"]
    assert spa == ["spa", "75.0 [0.0, 100.0]", "50.0 100.0", "25.0 → 75.0", "50", "100", "25", "0.25", "0.75"]


def test_differences_are_paired(results: dict):
    seeded, spa = style_guide.differences(results)
    assert seeded == ["seed_dpo", "–", "-75.0 [-100.0, +0.0]", "–"]
    assert spa == ["spa", "+75.0 [+0.0, +100.0]", "–", "–"]
    assert style_guide.markdown(results).count("\n| spa |") == 2


def test_the_figure_has_a_line_a_seed_and_their_mean(results: dict):
    lines = [[*trace.y] for trace in style_guide.figure(results).data if trace.name == "spa"]
    assert lines == [[25.0, 75.0], [50.0, 50.0], [0.0, 100.0]]


def test_the_interval_is_over_seeds_and_prompts():
    """All of a seed's answers alike: only the seeds differ. The same answers for all seeds: only the prompts do."""
    assert style_guide.interval(np.array([[0.0] * 50, [1.0] * 50])) == (0.0, 1.0)
    low, high = style_guide.interval(np.array([[0.0, 1.0] * 50] * 2))
    assert 0.35 < low < 0.45
    assert 0.55 < high < 0.65
    assert style_guide.interval(np.ones((2, 3))) == (1.0, 1.0)


def test_an_experiment_begins_with_what_another_one_made(tmp_path: Path):
    """Not with its lock, its MLflow run and its unfinished work; what is there already stays as it is."""
    made = {"06_models/one/policy_0/weights": "w", "08_reporting/one/.timings.json.manifest": "m"}
    left = {
        "06_models/one/.workspace_seeding/step": "s",
        "08_reporting/one/.lock": "",
        "08_reporting/one/.mlflow/id": "i",
    }
    theirs = {"07_model_output/one/outputs": "one's", "07_model_output/two/outputs": "two's"}
    for name, content in {**made, **left, **theirs}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    begin_with(tmp_path, "one", "two")
    found = {str(file.relative_to(tmp_path)): file.read_text() for file in tmp_path.rglob("*") if file.is_file()}
    began = {name.replace("/one/", "/two/"): content for name, content in made.items()}
    assert found == {**made, **left, **theirs, **began}
