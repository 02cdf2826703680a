"""policy → answers and log-probs in each capability test → metrics, and their difference from the initial model's."""

from kedro.pipeline import Node, Pipeline

from selfie.pipelines.capabilities.nodes import (
    answer_questions,
    follow_instructions,
    measure_capabilities,
    read_neutral_text,
)

TESTS = ("questions", "neutral_text", "ifeval")
SETTINGS = [
    "params:capabilities.max_items",
    "params:generation.batch_tokens",
    "params:max_length",
    "params:seed",
]


def create_pipeline(compared: bool) -> Pipeline:
    """``compared``: with the initial model, whose own it is otherwise."""
    results = {name: f"{name}_items" for name in TESTS}
    initial = {f"initial_{name}": f"initial_{name}_items" for name in TESTS if compared}
    length = "params:capabilities.max_new_tokens"
    return Pipeline(
        [
            Node(
                answer_questions,
                inputs=["capability_questions", "policy", "params:precision.evaluation", *SETTINGS],
                outputs="questions_items",
                name="answer_questions",
            ),
            Node(
                read_neutral_text,
                inputs=["neutral_text", "policy", "params:precision.scoring", *SETTINGS],
                outputs="neutral_text_items",
                name="read_neutral_text",
            ),
            Node(
                follow_instructions,
                inputs=["ifeval_prompts", "policy", length, "params:precision.evaluation", *SETTINGS],
                outputs="ifeval_items",
                name="follow_instructions",
            ),
            Node(
                measure_capabilities,
                inputs={
                    "samples": "params:evaluation.bootstrap_samples",
                    "seed": "params:seed",
                    **results,
                    **initial,
                },
                outputs="capabilities",
                name="measure_capabilities",
            ),
        ],
        tags="capabilities",
    )
