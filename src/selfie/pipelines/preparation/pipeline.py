"""Where the initial model comes from, if it is not simply there."""

from kedro.pipeline import Node, Pipeline

from selfie.pipelines.preparation.nodes import convert_model, make_language, pretrain_model


def create_pipeline(preparation: str) -> Pipeline:
    """``gguf``: a quantised file becomes a checkpoint; ``synthetic``: the language and its model; ``none``: nothing."""
    if preparation == "gguf":
        nodes = [
            Node(convert_model, inputs=["gguf_model", "model_workspace"], outputs="initial_model", name="convert_model")
        ]
    elif preparation == "synthetic":
        nodes = [
            Node(
                make_language,
                inputs=["params:synthetic", "params:seed"],
                outputs=["corpus", "seed_preferences", "prompts", "evaluation_prompts"],
                name="make_language",
            ),
            Node(
                pretrain_model,
                inputs=["corpus", "model_workspace", "params:seed"],
                outputs="initial_model",
                name="pretrain_model",
            ),
        ]
    else:
        nodes = []
    return Pipeline(nodes, tags="preparation")
