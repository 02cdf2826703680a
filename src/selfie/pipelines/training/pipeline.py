"""pairs + previous policy → next policy, and what the detector thought of every pair."""

from kedro.pipeline import Node, Pipeline

from selfie.pipelines.training.nodes import score_replayed, train_policy


def create_replay() -> Pipeline:
    """The human's pairs once more, with the previous policy as their reference."""
    return Pipeline(
        [
            Node(
                score_replayed,
                inputs=["human_pairs", "previous_policy", "workspace", "params:training", "params:judging"],
                outputs="replayed_pairs",
                name="score_replayed",
            )
        ],
        tags="training",
    )


def create_pipeline(replay: bool = False) -> Pipeline:
    """Noise-aware DPO from the previous policy, which is also the reference."""
    replayed = ["replayed_pairs"] if replay else []
    return Pipeline(
        [
            Node(
                train_policy,
                inputs=[
                    "pairs",
                    "previous_policy",
                    "workspace",
                    "params:training",
                    "params:beta",
                    "params:seed",
                    *replayed,
                ],
                outputs=["policy", "training_log"],
                name="train_policy",
            )
        ],
        tags="training",
    )
