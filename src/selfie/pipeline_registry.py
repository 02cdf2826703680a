"""The project's pipelines. ``globals.yml`` sets how many iterations there are and where the model comes from."""

from kedro.pipeline import Pipeline

from selfie.config.labelling import BY_POLICY
from selfie.config.pipeline_options import PipelineOptions, current_options
from selfie.pipelines import (
    capabilities,
    diagnostics,
    evaluation,
    export,
    generation,
    heldout,
    judging,
    labelling,
    preparation,
    reporting,
    seeding,
    training,
)

STAGES = ("seeding", "generation", "judging", "training", "evaluation", "diagnostics", "reporting")


def register_pipelines() -> dict[str, Pipeline]:
    """Every stage and every iteration alone, ``loop``, and ``__default__``: preparation and loop."""
    options = current_options()
    numbers = range(1, options.iterations + 1)
    parts = {"initial": create_baseline(options), "seeding": create_seeding(options)}
    parts |= {f"iteration_{k}": create_iteration(k, options) for k in numbers}
    loop = (
        generation.create_split(options.iterations)
        + (seeding.create_reward_training() if options.trains_reward_model else Pipeline([]))
        + sum(parts.values(), Pipeline([]))
        + evaluation.create_leaderboard(list(parts))
        + reporting.create_pipeline(list(parts), options.heldout)
    )
    prepared = preparation.create_pipeline(options.preparation)
    whole = prepared + loop
    stages = {stage: whole.only_nodes_with_tags(stage) for stage in STAGES} | {"seeding": parts["seeding"]}
    stages["seed_labelling"] = prepared + seeding.create_labelling()
    stages["propose_labels"] = prepared + create_label_proposal(options, prepared)
    stages["evaluate_outputs"] = create_external_evaluation()
    if options.model_outputs is not None:
        stages["evaluation"] = stages["evaluate_outputs"]
    policies = ["initial_model", *(f"policy_{k}" for k in (0, *numbers))]
    stages["mt_bench"] = create_mt_bench(policies)
    stages["capabilities"] = create_capabilities(policies) + stages["reporting"]
    stages["export"] = create_export(options)
    if options.preparation != "none":
        stages["preparation"] = whole.only_nodes_with_tags("preparation")
    return {
        "__default__": whole,
        "loop": loop,
        **stages,
        **{f"iteration_{k}": parts[f"iteration_{k}"] for k in numbers},
    }


def create_baseline(options: PipelineOptions) -> Pipeline:
    """The initial model's answers, with which every policy's are compared."""
    base = evaluation.create_pipeline(previous=False) + diagnostics.create_baseline()
    base += heldout.create_baseline() if options.heldout else Pipeline([])
    inputs = _outside(base) | {"policy": "initial_model"}
    return Pipeline(base, namespace="initial", inputs=inputs, parameters=_shared_parameters(base))


def create_external_evaluation() -> Pipeline:
    """Compares external outputs (answers from a file) with a reference, without any policy."""
    base = evaluation.create_external_evaluation()
    return Pipeline(
        base,
        namespace="external",
        inputs=_outside(base) | {"outputs": "model_outputs", "baseline_outputs": "reference_outputs"},
        parameters=_shared_parameters(base),
    )


def create_label_proposal(options: PipelineOptions, prepared: Pipeline) -> Pipeline:
    """Pairs for a human's labels, from the responses of the initial model or of a policy; not a part of the loop.

    The synthetic task's preparation makes prompts, which are taken then.
    """
    base = labelling.create_pipeline(options.label_selection)
    if options.label_selection in BY_POLICY:
        base += judging.create_pipeline(None).only_nodes("measure_precision", "score_responses")
    prompts = "prompts" if "prompts" in prepared.outputs() else "seed_prompts"
    brought = {"seed_prompts": prompts, "labels": "labels", "previous_policy": options.labelled_policy}
    return Pipeline(
        base,
        namespace="labelling",
        inputs=_outside(base) | brought,
        outputs={"proposed_pairs": "proposed_pairs"},
        parameters=_shared_parameters(base),
    )


def create_mt_bench(policies: list[str]) -> Pipeline:
    """MT-Bench of the policies; not a part of the loop."""
    base = evaluation.create_mt_bench()
    parts = (
        Pipeline(
            base,
            namespace=namespace_of(policy),
            inputs=_outside(base) | {"policy": policy},
            parameters=_shared_parameters(base),
        )
        for policy in policies
    )
    return sum(parts, Pipeline([]))


def create_capabilities(policies: list[str]) -> Pipeline:
    """What each policy lost or gained beside what it was trained for; not a part of the loop."""
    parts = []
    for policy in policies:
        base = capabilities.create_pipeline(compared=policy != "initial_model")
        inputs = _outside(base) | {"policy": policy}
        parts.append(Pipeline(base, namespace=namespace_of(policy), inputs=inputs, parameters=_shared_parameters(base)))
    return sum(parts, Pipeline([]))


def create_export(options: PipelineOptions) -> Pipeline:
    """A policy as a folder that works elsewhere; not a part of the loop."""
    policy = options.export_policy or f"policy_{options.iterations}"
    number = int(policy.removeprefix("policy_"))
    exported = export.create_pipeline(policy, [namespace_of(f"policy_{k}") for k in range(number + 1)])
    return exported + (export.create_push(policy) if options.push else Pipeline([]))


def create_seeding(options: PipelineOptions) -> Pipeline:
    """The initial model, tuned on the human's pairs, is policy 0."""
    return _in_namespace(
        seeding.create_pipeline() + training.create_pipeline() + diagnostics.create_seeding(),
        options,
        namespace="seeding",
        previous="initial_model",
        policy="policy_0",
        parameters={"params:training": "params:seeding"},
    )


def create_iteration(k: int, options: PipelineOptions) -> Pipeline:
    """Samples from policy k − 1, labels the pairs with its implicit reward (or another judge), and trains policy k."""
    return _in_namespace(
        generation.create_pipeline()
        + judging.create_pipeline(options.judge_model)
        + training.create_pipeline(options.replay)
        + diagnostics.create_iteration(),
        options,
        namespace=f"iteration_{k}",
        previous=f"policy_{k - 1}",
        policy=f"policy_{k}",
    )


def namespace_of(policy: str) -> str:
    """The namespace in which a policy is trained and evaluated."""
    names = {"initial_model": "initial", "policy_0": "seeding"}
    return names.get(policy, policy.replace("policy_", "iteration_"))


def _in_namespace(
    stages: Pipeline,
    options: PipelineOptions,
    namespace: str,
    previous: str,
    policy: str,
    parameters: dict[str, str] | None = None,
) -> Pipeline:
    base = stages + evaluation.create_pipeline() + evaluation.create_audit()
    if options.heldout:
        base += heldout.create_pipeline()
    earlier = {"previous_policy": previous, "previous_annotations": f"{namespace_of(previous)}.annotations"}
    return Pipeline(
        base,
        namespace=namespace,
        inputs=_outside(base) | earlier,
        outputs={"policy": policy},
        parameters=_shared_parameters(base) | (parameters or {}),
    )


def _outside(base: Pipeline) -> dict[str, str]:
    """The inputs that a namespace does not make itself, and the datasets that they come from."""
    names = ("initial_model", "seed_preferences", "reward_model", "evaluation_prompts", "heldout_preferences")
    sources = {name: name for name in (*names, "mt_bench_questions", "annotation_cache", "judge_key")}
    sources |= {"baseline_outputs": "initial.outputs", "initial_scores": "initial.heldout_scores"}
    sources |= {"human_pairs": "seeding.pairs"}
    sources |= {name: name for name in ("capability_questions", "neutral_text", "ifeval_prompts")}
    sources |= {f"initial_{test}_items": f"initial.{test}_items" for test in capabilities.TESTS}
    sources |= {"seeding_outputs": "seeding.outputs", "initial_diagnostics": "initial.diagnostics"}
    return {name: source for name, source in sources.items() if name in base.inputs()}


def _shared_parameters(base: Pipeline) -> dict[str, str]:
    """All namespaces take the same parameters: without this, Kedro looks for ``params:iteration_1.beta``."""
    return {name: name for name in base.inputs() if name.startswith("params:")}
