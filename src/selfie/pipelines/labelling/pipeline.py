"""prompts without labels → responses to some of them → the pairs that a human is asked to label."""

from kedro.pipeline import Node, Pipeline

from selfie.pipelines.labelling.nodes import (
    choose_prompts,
    propose_disputed_pairs,
    propose_pairs,
    propose_uncertain_pairs,
    sample_candidates,
)

PROPOSALS = {"uncertain": propose_uncertain_pairs, "disagreement": propose_disputed_pairs}


def create_pipeline(selection: str) -> Pipeline:
    """Proposes pairs by a rule; not a part of the loop. Two of the rules look at responses that judging has scored."""
    sampling = [
        Node(
            choose_prompts,
            inputs=["seed_prompts", "labels", "params:labelling", "params:seed"],
            outputs="prompts",
            name="choose_prompts",
        ),
        Node(
            sample_candidates,
            inputs=[
                "prompts",
                "previous_policy",
                "workspace",
                "params:generation",
                "params:labelling",
                "params:judging.choose_truncated",
                "params:precision.sampling",
                "params:max_length",
                "params:seed",
                "params:execution",
            ],
            outputs="responses",
            name="sample_candidates",
        ),
    ]
    proposal = Node(
        propose_pairs,
        inputs=["responses", "params:labelling.budget", "params:judging.choose_truncated"],
        outputs="proposed_pairs",
        name="propose_pairs",
    )
    if selection in PROPOSALS:
        proposal = Node(
            PROPOSALS[selection],
            inputs=["scored_responses", "params:labelling.budget", "params:judging", "params:beta"],
            outputs="proposed_pairs",
            name="propose_pairs",
        )
    return Pipeline([*sampling, proposal], tags="labelling")
