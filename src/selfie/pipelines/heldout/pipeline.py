"""policy + held-out preferences → log-probs → how often each judge is right."""

from kedro.pipeline import Node, Pipeline

from selfie.pipelines.heldout.nodes import audit_initial, audit_policy, score_heldout

SCORE = Node(
    score_heldout,
    inputs=[
        "heldout_preferences",
        "policy",
        "workspace",
        "params:judging.batch_tokens",
        "params:judging.shard_rows",
        "params:precision.scoring",
        "params:max_length",
        "params:execution",
    ],
    outputs="heldout_scores",
    name="score_heldout",
)


def create_baseline() -> Pipeline:
    """The initial model as judge."""
    audit = Node(
        audit_initial,
        inputs=["heldout_scores", "policy", "params:judging", "params:precision.scoring", "params:seed"],
        outputs="heldout",
        name="audit_heldout",
    )
    return Pipeline([SCORE, audit], tags="evaluation")


def create_pipeline() -> Pipeline:
    """A policy as judge."""
    audit = Node(
        audit_policy,
        inputs=["heldout_scores", "initial_scores", "params:judging", "params:seed"],
        outputs="heldout",
        name="audit_heldout",
    )
    return Pipeline([SCORE, audit], tags="evaluation")
