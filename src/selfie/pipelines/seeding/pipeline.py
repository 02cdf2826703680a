"""seed preferences → pairs as token ids; training makes policy 0 of them."""

from kedro.pipeline import Node, Pipeline

from selfie.pipelines.seeding.nodes import fit_reward_model, label_responses, sample_seeds, tokenize_pairs


def create_labelling() -> Pipeline:
    """Makes seed preferences where there are only prompts and a gold annotator; not a part of the loop."""
    return Pipeline(
        [
            Node(
                sample_seeds,
                inputs=[
                    "seed_prompts",
                    "initial_model",
                    "params:seed_labelling.samples_per_prompt",
                    "params:generation",
                    "params:precision.sampling",
                    "params:max_length",
                    "params:seed",
                ],
                outputs="seed_responses",
                name="sample_seeds",
            ),
            Node(
                label_responses,
                inputs=["seed_responses", "params:seed_labelling", "params:gold"],
                outputs="labelled_seeds",
                name="label_responses",
            ),
        ]
    )


def create_reward_training() -> Pipeline:
    """A reward model from the human's pairs."""
    return Pipeline(
        [
            Node(
                fit_reward_model,
                inputs=[
                    "seed_preferences",
                    "initial_model",
                    "reward_workspace",
                    "params:reward_model",
                    "params:precision.training",
                    "params:seed_pairs",
                    "params:seed",
                ],
                outputs="reward_model",
                name="fit_reward_model",
            )
        ],
        tags="seeding",
    )


def create_pipeline() -> Pipeline:
    """The human's pairs in the form that training takes."""
    return Pipeline(
        [
            Node(
                tokenize_pairs,
                inputs=[
                    "seed_preferences",
                    "previous_policy",
                    "workspace",
                    "params:seed_pairs",
                    "params:max_length",
                    "params:judging.shard_rows",
                ],
                outputs="pairs",
                name="tokenize_pairs",
            )
        ],
        tags="seeding",
    )
