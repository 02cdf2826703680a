"""The project's pipelines. Their shape (how many iterations, where the model comes from) is set by ``globals.yml``."""

from kedro.pipeline import Pipeline

from selfie.config.pipeline_options import Shape, current_shape
from selfie.pipelines import (
    diagnostics,
    evaluation,
    generation,
    heldout,
    judging,
    preparation,
    reporting,
    seeding,
    training,
)

STAGES = ("seeding", "generation", "judging", "training", "evaluation", "diagnostics", "reporting")


def register_pipelines() -> dict[str, Pipeline]:
    """Every stage and every iteration alone, ``loop``, and ``__default__``: preparation and loop."""
    shape = current_shape()
    numbers = range(1, shape.iterations + 1)
    rooms = {"initial": create_baseline(shape), "seeding": create_seeding(shape)}
    rooms |= {f"iteration_{k}": create_iteration(k, shape) for k in numbers}
    loop = (
        generation.create_split(shape.iterations)
        + (seeding.create_reward_training() if shape.trains_reward_model else Pipeline([]))
        + sum(rooms.values(), Pipeline([]))
        + evaluation.create_leaderboard(list(rooms))
        + reporting.create_pipeline(list(rooms), shape.heldout)
    )
    prepared = preparation.create_pipeline(shape.preparation)
    whole = prepared + loop
    stages = {stage: whole.only_nodes_with_tags(stage) for stage in STAGES} | {"seeding": rooms["seeding"]}
    stages["seed_labelling"] = prepared + seeding.create_labelling()
    stages["evaluate_outputs"] = create_stranger()
    if shape.model_outputs is not None:
        stages["evaluation"] = stages["evaluate_outputs"]
    stages["mt_bench"] = create_mt_bench(["initial_model", *(f"policy_{k}" for k in (0, *numbers))])
    if shape.preparation != "none":
        stages["preparation"] = whole.only_nodes_with_tags("preparation")
    return {
        "__default__": whole,
        "loop": loop,
        **stages,
        **{f"iteration_{k}": rooms[f"iteration_{k}"] for k in numbers},
    }


def create_baseline(shape: Shape) -> Pipeline:
    """The initial model's answers, with which every policy's are compared."""
    base = evaluation.create_pipeline(previous=False) + diagnostics.create_baseline()
    base += heldout.create_baseline() if shape.heldout else Pipeline([])
    inputs = _outside(base) | {"policy": "initial_model"}
    return Pipeline(base, namespace="initial", inputs=inputs, parameters=_shared_parameters(base))


def create_stranger() -> Pipeline:
    """Answers from a file against others, without any policy."""
    base = evaluation.create_stranger()
    return Pipeline(
        base,
        namespace="stranger",
        inputs=_outside(base) | {"outputs": "model_outputs", "baseline_outputs": "reference_outputs"},
        parameters=_shared_parameters(base),
    )


def create_mt_bench(policies: list[str]) -> Pipeline:
    """MT-Bench of the policies; not a part of the loop."""
    base = evaluation.create_mt_bench()
    rooms = (
        Pipeline(
            base,
            namespace=room_of(policy),
            inputs=_outside(base) | {"policy": policy},
            parameters=_shared_parameters(base),
        )
        for policy in policies
    )
    return sum(rooms, Pipeline([]))


def create_seeding(shape: Shape) -> Pipeline:
    """The initial model, tuned on the human's pairs, is policy 0."""
    return _room(
        seeding.create_pipeline() + training.create_pipeline() + diagnostics.create_seeding(),
        shape,
        namespace="seeding",
        previous="initial_model",
        policy="policy_0",
        parameters={"params:training": "params:seeding"},
    )


def create_iteration(k: int, shape: Shape) -> Pipeline:
    """One turn of the loop: policy k − 1 speaks, judges itself, and becomes policy k."""
    return _room(
        generation.create_pipeline()
        + judging.create_pipeline(shape.judge_model)
        + training.create_pipeline(shape.replay)
        + diagnostics.create_iteration(),
        shape,
        namespace=f"iteration_{k}",
        previous=f"policy_{k - 1}",
        policy=f"policy_{k}",
    )


def room_of(policy: str) -> str:
    """The namespace in which a policy comes about and is evaluated."""
    rooms = {"initial_model": "initial", "policy_0": "seeding"}
    return rooms.get(policy, policy.replace("policy_", "iteration_"))


def _room(
    stages: Pipeline,
    shape: Shape,
    namespace: str,
    previous: str,
    policy: str,
    parameters: dict[str, str] | None = None,
) -> Pipeline:
    base = stages + evaluation.create_pipeline() + evaluation.create_audit()
    if shape.heldout:
        base += heldout.create_pipeline()
    earlier = {"previous_policy": previous, "previous_annotations": f"{room_of(previous)}.annotations"}
    return Pipeline(
        base,
        namespace=namespace,
        inputs=_outside(base) | earlier,
        outputs={"policy": policy},
        parameters=_shared_parameters(base) | (parameters or {}),
    )


def _outside(base: Pipeline) -> dict[str, str]:
    """What a room reads that is not made in it, and where it comes from."""
    names = ("initial_model", "seed_preferences", "reward_model", "evaluation_prompts", "heldout_preferences")
    sources = {name: name for name in (*names, "mt_bench_questions", "annotation_cache", "judge_key")}
    sources |= {"baseline_outputs": "initial.outputs", "initial_scores": "initial.heldout_scores"}
    sources |= {"human_pairs": "seeding.pairs"}
    return {name: source for name, source in sources.items() if name in base.inputs()}


def _shared_parameters(base: Pipeline) -> dict[str, str]:
    """All rooms take the same parameters: without this, Kedro looks for ``params:iteration_1.beta``."""
    return {name: name for name in base.inputs() if name.startswith("params:")}
