"""seed preferences → pairs as token ids, with the initial model's log-probs; training makes policy 0 of them."""

from kedro.pipeline import Node, Pipeline

from selfie.pipelines.seeding.nodes import tokenize_pairs


def create_pipeline() -> Pipeline:
    """The human's pairs in the form that training takes."""
    return Pipeline(
        [
            Node(
                tokenize_pairs,
                inputs=["seed_preferences", "previous_policy", "params:max_length", "params:judging"],
                outputs="pairs",
                name="tokenize_pairs",
            )
        ],
        tags="seeding",
    )
