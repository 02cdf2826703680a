"""prompts without labels → responses to some of them → the pairs that a human is asked to label."""

from kedro.pipeline import Node, Pipeline

from selfie.pipelines.labelling.nodes import choose_prompts, propose_pairs, propose_uncertain_pairs, sample_candidates


def create_pipeline(by_margin: bool) -> Pipeline:
    """Proposes pairs; not a part of the loop. ``by_margin``: chosen from responses that judging has scored."""
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
                "params:labelling.samples_per_prompt",
                "params:precision.sampling",
                "params:max_length",
                "params:seed",
            ],
            outputs="responses",
            name="sample_candidates",
        ),
    ]
    proposal = Node(
        propose_pairs, inputs=["responses", "params:labelling.budget"], outputs="proposed_pairs", name="propose_pairs"
    )
    if by_margin:
        proposal = Node(
            propose_uncertain_pairs,
            inputs=["scored_responses", "params:labelling.budget", "params:judging", "params:beta"],
            outputs="proposed_pairs",
            name="propose_pairs",
        )
    return Pipeline([*sampling, proposal], tags="labelling")
