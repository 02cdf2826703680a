"""responses → both models' log-probs → pairs that the policy labelled itself."""

from kedro.pipeline import Node, Pipeline

from selfie.pipelines.judging.nodes import judge_responses, measure_precision, score_responses


def create_pipeline(judge_model: str | None) -> Pipeline:
    """Direct preference judgment of the previous policy against the initial model, or the verdict of a judge model."""
    asked = [judge_model] if judge_model else []
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
                    "params:execution",
                ],
                outputs="scored_responses",
                name="score_responses",
            ),
            Node(
                judge_responses,
                inputs=[
                    "scored_responses",
                    "workspace",
                    "params:judging",
                    "params:precision.scoring",
                    "params:beta",
                    "params:gold",
                    "params:execution",
                    *asked,
                ],
                outputs="pairs",
                name="judge_responses",
            ),
        ],
        tags="judging",
    )
