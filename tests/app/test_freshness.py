"""What a step's outputs are recorded to be made from, and what the next run says of the record."""

import sys
from functools import partial, update_wrapper
from inspect import unwrap
from pathlib import Path
from typing import Any

import pytest
from kedro.framework.project import pipelines
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node

from runs import session
from selfie.app.freshness import examine, provenance_of, step_version
from selfie.config.parameters import AnnotationParameters
from selfie.datasets import CommittedDataset

STEP_VERSIONS = {"ask_judge": 1}
ENDPOINT = {
    **{"base_url": "http://127.0.0.1/v1", "model": "judge", "temperature": 0.0, "timeout": 1.0, "attempts": 1},
    **{"concurrency": 1, "requests_per_minute": None, "price": None},
}
ANNOTATION = {
    **{"order": "both", "max_failures": 0.0, "judge_model": None, "judge_revision": None, "endpoint": ENDPOINT},
}


def ask_judge(annotation: AnnotationParameters, seed: int) -> dict[str, Any]:
    return {"order": annotation.order, "seed": seed}


NODE = Node(ask_judge, inputs=["params:annotation", "params:seed"], outputs="result", name="ask_judge")


def catalog(folder: Path, seed: int = 3, **annotation: Any) -> DataCatalog:
    parameters = AnnotationParameters(**{**ANNOTATION, **annotation})
    return DataCatalog(
        {
            "params:annotation": MemoryDataset(parameters),
            "params:seed": MemoryDataset(seed),
            "result": CommittedDataset(str(folder / "result.json"), {"type": "json.JSONDataset"}),
        }
    )


def make(folder: Path, **parameters: Any) -> None:
    """As a run does it."""
    made = catalog(folder, **parameters)
    made.get("result").provenance = provenance_of(NODE, made)
    made.save("result", ask_judge(made.load("params:annotation"), made.load("params:seed")))


def test_a_record_names_version_parameters_and_inputs_and_nothing_of_the_code(tmp_path: Path):
    record = provenance_of(NODE, catalog(tmp_path))
    assert record.keys() == {"version", "parameters", "inputs"}
    assert record["version"] == 1
    assert record["parameters"]["annotation.order"] == "both"
    assert record["parameters"]["annotation.endpoint.model"] == "judge"
    assert record["parameters"]["seed"] == 3


def test_a_raised_version_makes_the_step_stale(tmp_path: Path, monkeypatch):
    make(tmp_path)
    assert examine(NODE, catalog(tmp_path)).status == "done"
    monkeypatch.setitem(STEP_VERSIONS, "ask_judge", 2)
    state = examine(NODE, catalog(tmp_path))
    assert (state.status, state.why()) == ("stale", "the step's version was 1, is 2")
    make(tmp_path)
    assert examine(NODE, catalog(tmp_path)).status == "done"


def test_a_record_without_a_version_is_stale(tmp_path: Path):
    """As runs left it before steps had one: it stops no run and no `kedro status`."""
    record = provenance_of(NODE, catalog(tmp_path))
    del record["version"]
    result = catalog(tmp_path).get("result")
    result.provenance = record
    result.save("made then")
    state = examine(NODE, catalog(tmp_path))
    assert (state.status, state.why()) == ("stale", "the step's version was not recorded, is 1")


def test_every_parameter_of_a_group_counts(tmp_path: Path):
    make(tmp_path)
    state = examine(NODE, catalog(tmp_path, order="random", seed=4))
    assert state.why() == "annotation.order was both, is random; seed was 3, is 4"


def test_what_changes_no_result_does_not_count(tmp_path: Path):
    make(tmp_path)
    quicker = {**ENDPOINT, "timeout": 9.0, "concurrency": 8}
    assert examine(NODE, catalog(tmp_path, max_failures=0.5, endpoint=quicker)).status == "done"


def test_a_models_folder_counts_by_what_lies_in_it(tmp_path: Path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    make(tmp_path, judge_model=str(model))
    assert examine(NODE, catalog(tmp_path, judge_model=str(model))).status == "done"
    (model / "config.json").write_text('{"other": 1}')
    assert "annotation.judge_model was " in examine(NODE, catalog(tmp_path, judge_model=str(model))).why()


def test_the_version_of_a_function_with_a_setting_of_its_own(monkeypatch):
    """As split_prompts, which knows how many iterations there are; a function from outside may have no version."""
    monkeypatch.setitem(STEP_VERSIONS, "ask_judge", 5)
    assert step_version(update_wrapper(partial(ask_judge, seed=2), ask_judge)) == 5
    assert step_version(make) == 1
    assert step_version(partial(make, seed=2)) == 1


@pytest.fixture(scope="module")
def project() -> tuple[list[Node], DataCatalog]:
    """Every step of every pipeline, and the catalog."""
    with session() as opened:
        catalog = opened.load_context().catalog
        return [node for pipeline in pipelines.values() for node in pipeline.nodes], catalog


def test_every_step_has_a_version_and_every_version_a_step(project: tuple[list[Node], DataCatalog]):
    functions = {unwrap(node.func) for node in project[0]}
    for module in {sys.modules[function.__module__] for function in functions}:
        steps = {function.__name__ for function in functions if function.__module__ == module.__name__}
        assert steps <= module.STEP_VERSIONS.keys(), module.__name__
        assert all(callable(getattr(module, name, None)) for name in module.STEP_VERSIONS), module.__name__


def test_what_repeats_the_steps_of_the_loop(project: tuple[list[Node], DataCatalog]):
    """An evaluation's bootstrap samples nothing anew; another judge scores nothing anew; neither trains."""
    nodes, catalog = project
    found = {node.name: set(provenance_of(node, catalog)["parameters"]) for node in nodes}
    sampling = found["iteration_1.generate_outputs"]
    assert {"evaluation.temperature", "evaluation.max_new_tokens", "precision.evaluation"} <= sampling
    assert not {"evaluation.annotator", "evaluation.bootstrap_samples", "precision.scoring"} & sampling
    assert found["iteration_1.score_responses"] == {"judging.batch_tokens", "judging.shard_rows"}
    assert "judging.length" in found["iteration_1.judge_responses"]
    assert "evaluation.bootstrap_samples" not in found["iteration_1.annotate_outputs"]
    training = found["iteration_1.train_policy"]
    assert {"training.learning_rate", "precision.training"} <= training
    assert not {"training.checkpoint_steps", "precision.scoring", "judging.length"} & training
