"""policy → answers to the evaluation prompts → annotations against the initial model's → metrics."""

from kedro.pipeline import Node, Pipeline

from selfie.pipelines.evaluation.nodes import (
    annotate_outputs,
    answer_mt_bench,
    audit_pairs,
    generate_outputs,
    grade_mt_bench,
    measure,
    measure_mt_bench,
    rank,
)

SAMPLING = [
    "params:generation",
    "params:evaluation.temperature",
    "params:evaluation.max_new_tokens",
    "params:precision.evaluation",
    "params:max_length",
    "params:seed",
    "params:execution",
]


def create_pipeline(previous: bool = True) -> Pipeline:
    """How good is this policy, and (``previous``) is it better than the one before?"""
    return Pipeline(
        [
            Node(
                generate_outputs,
                inputs=["evaluation_prompts", "policy", "workspace", *SAMPLING],
                outputs="outputs",
                name="generate_outputs",
            ),
            *_judging(["previous_annotations"] if previous else []),
        ],
        tags="evaluation",
    )


def create_external_evaluation() -> Pipeline:
    """Compares external outputs with a reference."""
    return Pipeline(
        [*_judging([]), Node(rank, inputs="annotations", outputs="leaderboard", name="rank")], tags="evaluation"
    )


def create_leaderboard(namespaces: list[str]) -> Pipeline:
    """``namespaces``: those whose policies are ranked."""
    annotations = [f"{namespace}.annotations" for namespace in namespaces]
    return Pipeline([Node(rank, inputs=annotations, outputs="leaderboard", name="rank")], tags="evaluation")


def create_audit() -> Pipeline:
    """How good are the labels that it was trained on?"""
    return Pipeline(
        [
            Node(
                audit_pairs,
                inputs=["pairs", "training_log", "params:gold"],
                outputs="labels",
                name="audit_pairs",
            )
        ],
        tags="evaluation",
    )


def create_mt_bench() -> Pipeline:
    """How good are its answers in conversations of two turns?"""
    return Pipeline(
        [
            Node(
                answer_mt_bench,
                inputs=["mt_bench_questions", "policy", "workspace", *SAMPLING],
                outputs="mt_bench_answers",
                name="answer_mt_bench",
            ),
            Node(
                grade_mt_bench,
                inputs=[
                    "mt_bench_answers",
                    "params:annotation",
                    "params:judge_prompts",
                    "annotation_cache",
                    "judge_key",
                ],
                outputs="mt_bench_grades",
                name="grade_mt_bench",
            ),
            Node(
                measure_mt_bench,
                inputs=["mt_bench_grades", "params:evaluation", "params:seed"],
                outputs="mt_bench",
                name="measure_mt_bench",
            ),
        ],
        tags="mt_bench",
    )


def _judging(previous: list[str]) -> list[Node]:
    return [
        Node(
            annotate_outputs,
            inputs=[
                "outputs",
                "baseline_outputs",
                "params:evaluation.annotator",
                "params:annotation",
                "params:judge_prompts",
                "params:gold",
                "params:precision.evaluation",
                "annotation_cache",
                "judge_key",
                "params:seed",
            ],
            outputs="annotations",
            name="annotate_outputs",
        ),
        Node(
            measure,
            inputs=["outputs", "annotations", "params:evaluation", "params:seed", *previous],
            outputs="evaluation",
            name="measure",
        ),
    ]
