"""responses → both models' log-probs → pairs that the policy labelled itself."""

from kedro.pipeline import Node, Pipeline

from selfie.pipelines.judging.nodes import judge_responses, measure_precision, measure_support, score_responses


def create_support() -> Pipeline:
    """Where the judge may be trusted: what the initial model itself says to the first iteration's prompts."""
    return Pipeline(
        [
            Node(
                measure_support,
                inputs=[
                    "responses",
                    "policy",
                    "params:precision.scoring",
                    "params:judging.batch_tokens",
                    "params:judging.support_percentile",
                ],
                outputs="support",
                name="measure_support",
            )
        ],
        tags="judging",
    )


def create_pipeline(judge_model: str | None, support: bool) -> Pipeline:
    """Direct preference judgment of the previous policy against the initial model, or the verdict of a judge model."""
    optional = {"judge_model": judge_model} if judge_model else {}
    optional |= {"support": "support"} if support else {}
    return Pipeline(
        [
            Node(
                measure_precision,
                inputs=[
                    "responses",
                    "previous_policy",
                    "initial_model",
                    "params:judging.batch_tokens",
                    "params:precision.scoring",
                    "params:precision.sampling",
                ],
                outputs="precision",
                name="measure_precision",
            ),
            Node(
                score_responses,
                inputs=[
                    "responses",
                    "previous_policy",
                    "initial_model",
                    "precision",
                    "workspace",
                    "params:judging.batch_tokens",
                    "params:judging.shard_rows",
                ],
                outputs="scored_responses",
                name="score_responses",
            ),
            Node(
                judge_responses,
                inputs={
                    "scored": "scored_responses",
                    "workspace": "workspace",
                    "parameters": "params:judging",
                    "precision": "params:precision.scoring",
                    "beta": "params:beta",
                    "gold": "params:gold",
                    **optional,
                },
                outputs="pairs",
                name="judge_responses",
            ),
        ],
        tags="judging",
    )
