"""A node depends on the parameters that it reads, and on no others of their group."""

from functools import partial, update_wrapper
from typing import Any

import pytest
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.pipeline import Node

from selfie.app.code_version import code_version
from selfie.app.parameter_use import parameters_used
from selfie.config.parameters import EvaluationParameters, TrainingParameters
from test_continuing import PROJECT

EVALUATION = EvaluationParameters(annotator="none", temperature=0.5, max_new_tokens=8, bootstrap_samples=7)
TRAINING = TrainingParameters(
    learning_rate=0.1,
    epochs=1,
    batch_size=2,
    batch_tokens=512,
    learning_rate_warmup=0.1,
    weight_decay=0.0,
    max_grad_norm=1.0,
    loss="noise_aware",
    alpha=0.1,
    noise_percentile=10.0,
    extrapolation=[0.5],
    detector_window=4,
    trust_warmup=0.2,
)
EVERY = {f"evaluation.{name}": value for name, value in EVALUATION.model_dump().items()}


def used(function: Any, **changes: Any) -> dict[str, Any]:
    node = Node(function, inputs=["params:evaluation", "params:seed"], outputs="out", name="out")
    return parameters_used(node, {"params:evaluation": EVALUATION.model_copy(update=changes), "params:seed": 3}.get)


def reads_two(evaluation: EvaluationParameters, seed: int) -> float:
    return sum(evaluation.temperature * seed for _ in range(evaluation.max_new_tokens))


def hands_on(evaluation: EvaluationParameters, seed: int) -> Any:
    return reads_two(evaluation, seed), evaluation.annotator


def renames(evaluation: EvaluationParameters, seed: int) -> Any:
    other = evaluation
    return other.annotator, seed


def asks_a_method(evaluation: EvaluationParameters, seed: int) -> Any:
    return evaluation.model_dump(), seed


def ignores(evaluation: EvaluationParameters, seed: int) -> int:
    return seed


def starred(*values: Any) -> Any:
    return values


def test_fields_that_are_read():
    assert used(reads_two) == {"evaluation.temperature": 0.5, "evaluation.max_new_tokens": 8, "seed": 3}


@pytest.mark.parametrize("function", [hands_on, renames, asks_a_method, ignores, starred])
def test_where_it_is_not_sure_every_field_counts(function: Any):
    assert used(function) == {**EVERY, "seed": 3}


def test_a_function_with_a_setting_of_its_own():
    """As split_prompts, which knows how many iterations there are."""

    def bound(evaluation: EvaluationParameters, seed: int, iterations: int) -> Any:
        return evaluation.annotator, seed, iterations

    function = update_wrapper(partial(bound, iterations=2), bound)
    assert used(function) == {"evaluation.annotator": "none", "seed": 3}
    assert code_version(function) == code_version(bound)


def test_inputs_by_name():
    node = Node(reads_two, inputs={"seed": "params:seed", "evaluation": "params:evaluation"}, outputs="out", name="out")
    values = {"params:evaluation": EVALUATION, "params:seed": 3}
    assert parameters_used(node, values.get) == used(reads_two)


def test_what_changes_no_result_does_not_count():
    def trains(parameters: TrainingParameters) -> Any:
        return dict(parameters)

    node = Node(trains, inputs="params:seeding", outputs="out", name="out")
    found = parameters_used(node, {"params:seeding": TRAINING}.get)
    assert found["seeding.alpha"] == TRAINING.alpha
    assert "seeding.checkpoint_steps" not in found


@pytest.fixture(scope="module")
def nodes() -> list[Node]:
    """Every step of every pipeline."""
    bootstrap_project(PROJECT)
    with KedroSession.create(PROJECT, env="test") as session:
        session.load_context()
        return [node for pipeline in pipelines.values() for node in pipeline.nodes]


def test_every_step_has_code_that_can_change(nodes: list[Node]):
    for node in nodes:
        assert any(module.startswith("selfie.pipelines.") for module in code_version(node.func)), node.name


def test_steps_of_the_loop(nodes: list[Node]):
    """What an evaluation's settings must not repeat: sampling; a judge's: scoring."""
    bootstrap_project(PROJECT)
    with KedroSession.create(PROJECT, env="test") as session:
        catalog = session.load_context().catalog
        found = {node.name: set(parameters_used(node, catalog.load)) for node in nodes}
    sampling = {f"generation.{name}" for name in ("engine", "top_p", "batch_tokens", "shard_rows")}
    assert found["iteration_1.generate_outputs"] == sampling | {
        "evaluation.temperature",
        "evaluation.max_new_tokens",
        "max_length",
        "seed",
    }
    assert found["iteration_1.score_responses"] == {"judging.batch_tokens", "judging.shard_rows"}
    assert found["iteration_1.measure"] == {"evaluation.annotator", "evaluation.bootstrap_samples", "seed"}
    assert "training.learning_rate" in found["iteration_1.train_policy"]
    assert "training.checkpoint_steps" not in found["iteration_1.train_policy"]
    assert "annotation.endpoint.model" in found["iteration_1.annotate_outputs"]
    assert "annotation.endpoint.timeout" not in found["iteration_1.annotate_outputs"]
