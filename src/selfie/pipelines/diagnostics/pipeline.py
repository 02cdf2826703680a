"""pairs, log-probs, training log, answers → diagnostics, figures, examples: what the win rate does not show."""

from kedro.pipeline import Node, Pipeline

from selfie.pipelines.diagnostics.nodes import (
    choose_examples,
    compose_section,
    detect_drift,
    diagnose_answers,
    diagnose_iteration,
    diagnose_seeds,
    measure_style_guide,
    plot_labels,
    plot_lengths,
    rejudge_pairs,
    score_answers,
)

ANSWERS = {name: name for name in ("outputs", "baseline_outputs", "annotations")} | {"gold": "params:gold"}


LABEL_PLOTS = {name: f"{name}_plot" for name in ("reliability", "margins", "lengths")}


def create_baseline() -> Pipeline:
    """The initial model has answers, but no labels."""
    return Pipeline(
        [
            *_answers({}, initial_diagnostics="diagnostics"),
            Node(
                diagnose_answers,
                inputs=["outputs", "answer_scores"],
                outputs="diagnostics",
                name="diagnose_answers",
            ),
        ],
        tags="diagnostics",
    )


def create_seeding() -> Pipeline:
    """The human's labels, and the answers of the policy that was trained on them."""
    return Pipeline(
        [
            *_answers({"initial": "baseline_outputs"}),
            Node(
                diagnose_seeds,
                inputs=["pairs", "outputs", "answer_scores"],
                outputs="diagnostics",
                name="diagnose_seeds",
            ),
            Node(plot_lengths, inputs="pairs", outputs="lengths_plot", name="plot_lengths"),
            Node(
                compose_section,
                inputs={**ANSWERS, "lengths": "lengths_plot"},
                outputs="section",
                name="compose_section",
            ),
        ],
        tags="diagnostics",
    )


def create_iteration() -> Pipeline:
    """The previous policy's labels, judged again by the policy that was trained on them."""
    return Pipeline(
        [
            *_answers({"initial": "baseline_outputs", "seeding": "seeding_outputs"}),
            Node(
                rejudge_pairs,
                inputs=[
                    "pairs",
                    "scored_responses",
                    "policy",
                    "precision",
                    "params:judging",
                    "params:beta",
                    "params:seed",
                ],
                outputs="rejudged_pairs",
                name="rejudge_pairs",
            ),
            Node(
                diagnose_iteration,
                inputs=[
                    "pairs",
                    "scored_responses",
                    "rejudged_pairs",
                    "precision",
                    "outputs",
                    "answer_scores",
                    "params:gold",
                    "params:judging.support_percentile",
                    "params:seed",
                ],
                outputs="diagnostics",
                name="diagnose_iteration",
            ),
            Node(
                choose_examples,
                inputs=["pairs", "training_log", "params:gold"],
                outputs="examples",
                name="choose_examples",
            ),
            Node(
                plot_labels,
                inputs=["pairs", "training_log", "params:gold"],
                outputs=["reliability_plot", "margins_plot", "lengths_plot"],
                name="plot_labels",
            ),
            Node(
                compose_section,
                inputs={**ANSWERS, "examples": "examples", **LABEL_PLOTS},
                outputs="section",
                name="compose_section",
            ),
        ],
        tags="diagnostics",
    )


def _answers(earlier: dict[str, str], initial_diagnostics: str = "initial_diagnostics") -> list[Node]:
    """Do the answers follow the style guide, and do they make sense? ``earlier``: answers to compare with."""
    return [
        Node(
            score_answers,
            inputs=[
                "outputs",
                "initial_model",
                "params:judging.batch_tokens",
                "params:precision.evaluation",
                "params:seed",
            ],
            outputs="answer_scores",
            name="score_answers",
        ),
        Node(
            measure_style_guide,
            inputs={
                "outputs": "outputs",
                "gold": "params:gold",
                "samples": "params:evaluation.bootstrap_samples",
                "seed": "params:seed",
                **earlier,
            },
            outputs="style_guide",
            name="measure_style_guide",
        ),
        Node(
            detect_drift,
            inputs=["evaluation", "style_guide", "diagnostics", initial_diagnostics],
            outputs="drift",
            name="detect_drift",
        ),
    ]
