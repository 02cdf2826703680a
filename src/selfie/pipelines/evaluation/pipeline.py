"""policy → answers to the evaluation prompts → annotations against the initial model's → metrics."""

from kedro.pipeline import Node, Pipeline

from selfie.pipelines.evaluation.nodes import annotate_outputs, audit_pairs, generate_outputs, measure


def create_pipeline() -> Pipeline:
    """How good is this policy?"""
    return Pipeline(
        [
            Node(
                generate_outputs,
                inputs=[
                    "evaluation_prompts",
                    "policy",
                    "workspace",
                    "params:generation",
                    "params:evaluation",
                    "params:max_length",
                    "params:seed",
                ],
                outputs="outputs",
                name="generate_outputs",
            ),
            Node(
                annotate_outputs,
                inputs=["outputs", "baseline_outputs", "params:evaluation", "params:gold"],
                outputs="annotations",
                name="annotate_outputs",
            ),
            Node(
                measure,
                inputs=["outputs", "annotations", "params:evaluation", "params:seed"],
                outputs="evaluation",
                name="measure",
            ),
        ],
        tags="evaluation",
    )


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
