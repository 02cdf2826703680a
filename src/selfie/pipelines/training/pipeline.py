"""pairs + previous policy → next policy, and the noise detector's log of every pair."""

from kedro.pipeline import Node, Pipeline

from selfie.pipelines.training.nodes import train_policy


def create_pipeline(replay: bool = False) -> Pipeline:
    """Noise-aware DPO from the previous policy, which is also the reference."""
    replayed = ["human_pairs"] if replay else []
    return Pipeline(
        [
            Node(
                train_policy,
                inputs=[
                    "pairs",
                    "previous_policy",
                    "workspace",
                    "params:training",
                    "params:precision.training",
                    "params:beta",
                    "params:seed",
                    "params:execution",
                    *replayed,
                ],
                outputs=["policy", "training_log"],
                name="train_policy",
            )
        ],
        tags="training",
    )
