"""policy, what it was made from, summary → model card → a folder that works elsewhere."""

from functools import partial, update_wrapper

from kedro.pipeline import Node, Pipeline

from selfie.pipelines.export.nodes import export_policy, push_policy, write_card


def create_pipeline(policy: str, namespaces: list[str]) -> Pipeline:
    """``namespaces``: those whose policies lead to this one, itself the last: seeding, iteration_1 …"""
    tuned = [f"policy_{number}" for number in range(len(namespaces))]
    iterations, last = namespaces[1:], namespaces[-1]
    sampled = [*_of(iterations, "responses"), *_of(iterations, "scored_responses")]
    made = [*sampled, *_of(namespaces, "pairs"), *tuned, f"{last}.outputs", f"{last}.evaluation"]
    counted = [*_of(iterations, "prompts"), *_of(namespaces, "pairs"), f"{last}.outputs"]
    described = [*(f"{name}_manifest" for name in (*made, "summary")), *counted]
    return Pipeline(
        [
            Node(
                write_card,
                inputs={
                    "experiment": "params:experiment",
                    "export": "params:export",
                    "initial_model": "initial_model",
                    "summary": "summary",
                    **{name: name for name in described},
                },
                outputs=f"{policy}_card",
                name="write_card",
            ),
            Node(
                update_wrapper(partial(export_policy, name=policy), export_policy),
                inputs=[
                    policy,
                    "initial_model",
                    f"{policy}_card",
                    "export_workspace",
                    "params:experiment",
                    "params:export",
                ],
                outputs=f"{policy}_export",
                name="export_policy",
            ),
        ],
        tags="export",
    )


def create_push(policy: str) -> Pipeline:
    """The exported folder → a repository on the hub."""
    return Pipeline(
        [
            Node(
                push_policy,
                inputs=[f"{policy}_export", "params:export.push_to_hub", "hub_token"],
                outputs=f"{policy}_push",
                name="push_policy",
            )
        ],
        tags="export",
    )


def _of(namespaces: list[str], kind: str) -> list[str]:
    return [f"{namespace}.{kind}" for namespace in namespaces]
