"""prompts → the iterations' prompts; the previous policy's responses to them."""

from functools import partial, update_wrapper

from kedro.pipeline import Node, Pipeline

from selfie.pipelines.generation.nodes import generate_responses, split_prompts


def create_split(iterations: int) -> Pipeline:
    """Fresh prompts for every iteration."""
    if not iterations:
        return Pipeline([])
    return Pipeline(
        [
            Node(
                update_wrapper(partial(split_prompts, iterations=iterations), split_prompts),
                inputs=["prompts", "params:prompts_per_iteration", "params:seed"],
                outputs=[f"iteration_{k}.prompts" for k in range(1, iterations + 1)],
                name="split_prompts",
            )
        ],
        tags="generation",
    )


def create_pipeline() -> Pipeline:
    """Samples from the previous policy."""
    return Pipeline(
        [
            Node(
                generate_responses,
                inputs=[
                    "prompts",
                    "previous_policy",
                    "initial_model",
                    "workspace",
                    "params:generation",
                    "params:precision.sampling",
                    "params:max_length",
                    "params:seed",
                    "params:execution",
                ],
                outputs="responses",
                name="generate_responses",
            )
        ],
        tags="generation",
    )
