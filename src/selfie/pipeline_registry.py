"""The project's pipelines. Their shape (how many iterations, where the model comes from) is set by ``globals.yml``."""

from kedro.pipeline import Pipeline

from selfie.pipelines import evaluation, generation, judging, preparation, reporting, seeding, training
from selfie.shape import current_shape

STAGES = ("seeding", "generation", "judging", "training", "evaluation", "reporting")


def register_pipelines() -> dict[str, Pipeline]:
    """Every stage and every iteration alone, ``loop``, and ``__default__``: preparation and loop."""
    shape = current_shape()
    numbers = range(1, shape.iterations + 1)
    rooms = {"initial": create_baseline(), "seeding": create_seeding()}
    rooms |= {f"iteration_{k}": create_iteration(k, shape.judge_model, shape.replay) for k in numbers}
    loop = (
        generation.create_split(shape.iterations)
        + (seeding.create_reward_training() if shape.trains_reward_model else Pipeline([]))
        + sum(rooms.values(), Pipeline([]))
        + reporting.create_pipeline(list(rooms))
    )
    whole = preparation.create_pipeline(shape.preparation) + loop
    stages = {stage: whole.only_nodes_with_tags(stage) for stage in STAGES} | {"seeding": rooms["seeding"]}
    stages["seed_labelling"] = seeding.create_labelling()
    if shape.preparation != "none":
        stages["preparation"] = whole.only_nodes_with_tags("preparation")
    return {
        "__default__": whole,
        "loop": loop,
        **stages,
        **{f"iteration_{k}": rooms[f"iteration_{k}"] for k in numbers},
    }


def create_baseline() -> Pipeline:
    """The initial model's answers, with which every policy's are compared."""
    base = evaluation.create_pipeline()
    inputs = {"policy": "initial_model", "evaluation_prompts": "evaluation_prompts"}
    inputs["baseline_outputs"] = "initial.outputs"
    return Pipeline(base, namespace="initial", inputs=inputs, parameters=_shared_parameters(base))


def create_seeding() -> Pipeline:
    """The initial model, tuned on the human's pairs, is policy 0."""
    return _room(
        seeding.create_pipeline() + training.create_pipeline(),
        namespace="seeding",
        previous="initial_model",
        policy="policy_0",
        parameters={"params:training": "params:seeding"},
    )


def create_iteration(k: int, judge_model: str | None, replay: bool) -> Pipeline:
    """One turn of the loop: policy k − 1 speaks, judges itself, and becomes policy k."""
    return _room(
        generation.create_pipeline()
        + judging.create_pipeline(judge_model)
        + (training.create_replay() if replay else Pipeline([]))
        + training.create_pipeline(replay),
        namespace=f"iteration_{k}",
        previous=f"policy_{k - 1}",
        policy=f"policy_{k}",
    )


def _room(
    stages: Pipeline,
    namespace: str,
    previous: str,
    policy: str,
    parameters: dict[str, str] | None = None,
) -> Pipeline:
    base = stages + evaluation.create_pipeline() + evaluation.create_audit()
    outside = {name: name for name in ("initial_model", "seed_preferences", "reward_model", "evaluation_prompts")}
    outside |= {"previous_policy": previous, "baseline_outputs": "initial.outputs", "human_pairs": "seeding.pairs"}
    return Pipeline(
        base,
        namespace=namespace,
        inputs={name: source for name, source in outside.items() if name in base.inputs()},
        outputs={"policy": policy},
        parameters=_shared_parameters(base) | (parameters or {}),
    )


def _shared_parameters(base: Pipeline) -> dict[str, str]:
    """All rooms take the same parameters: without this, Kedro looks for ``params:iteration_1.beta``."""
    return {name: name for name in base.inputs() if name.startswith("params:")}
