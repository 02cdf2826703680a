"""The table of all policies: ``summary.json``."""

from typing import Any

STAGES = ("generation", "judging", "training", "evaluation", "diagnostics")
ROUNDING = (
    "label_agreement",
    "label_agreement_ci",
    "rounding_noise",
    "reward_spread",
    "sampling_kl",
    "sampling_kl_share",
)
_MEASURED = (
    "questions_exact_match",
    "questions_exact_match_change",
    "neutral_text_word_perplexity",
    "neutral_text_word_perplexity_ratio",
    "ifeval_prompt_level_strict_acc",
    "ifeval_prompt_level_strict_acc_change",
    "ifeval_inst_level_strict_acc",
    "ifeval_inst_level_strict_acc_change",
)
CAPABILITIES = tuple(f"{name}{suffix}" for name in _MEASURED for suffix in ("", "_ci"))
COPIED = (
    "style_guide",
    "win_rate",
    "win_rate_ci",
    "win_rate_change",
    "win_rate_change_ci",
    "win_rate_change_p",
    "length_controlled_win_rate",
    "gold_score",
    "avg_length",
    "label_accuracy",
    "label_accuracy_ci",
    "heldout_accuracy",
    "heldout_accuracy_ci",
    "ece",
    "ece_by_chance",
    "noise_precision",
    "noise_recall",
    "noise_base_error",
    "avg_chosen_tokens",
    "avg_rejected_tokens",
    "longer_chosen",
    "longer_chosen_ci",
    "length_margin_correlation",
    "length_margin_correlation_ci",
    *ROUNDING,
    "flip_rate",
    "flip_rate_ci",
    "kl_from_initial",
    "kl_from_initial_ci",
    "outside_support",
    "distinct_1",
    "distinct_2",
    "repetition",
    "on_topic",
    "on_topic_ci",
    "perplexity_ratio",
    "truncated",
    "truncated_ci",
    "drifted",
    "drift_reasons",
    "n_pairs",
    *CAPABILITIES,
)


def summary_of(
    experiment: str, model: str, metrics: dict[str, dict[str, Any]], timings: dict[str, Any]
) -> dict[str, Any]:
    """One entry a policy: ``initial``, ``policy_0`` (seeded), ``policy_1`` …

    Args:
        experiment: its name.
        model: what the initial model is called.
        metrics: namespace (``initial``, ``seeding``, ``iteration_1`` …) → its metrics.
        timings: node → ``namespace``, ``stage``, ``seconds``, ``peak_rss_gib``, as the timing hook records them.

    Returns:
        Win rates in percent (their change since the policy before in points, with its p-value), accuracy, precision
        and recall as fractions, length in characters, time in seconds of wall clock; None where a figure does not
        apply. ``style_guide`` is a group of its own: :func:`selfie.diagnostics.style_guide.style_guide_shares`.
    """
    return {
        "experiment": experiment,
        "model": model,
        "iterations": [
            {
                "name": policy_name(namespace),
                **{name: values.get(name) for name in COPIED},
                "seconds": {stage: _seconds(timings, namespace, stage) for stage in STAGES},
            }
            for namespace, values in metrics.items()
        ],
        "peak_rss_gib": max((entry["peak_rss_gib"] for entry in timings.values()), default=None),
        "wall_seconds": round(sum(entry["seconds"] for entry in timings.values()), 1),
    }


def policy_name(namespace: str) -> str:
    """``seeding`` makes policy_0, ``iteration_k`` makes policy_k; ``initial`` stays."""
    return namespace.replace("seeding", "policy_0").replace("iteration_", "policy_")


def _seconds(timings: dict[str, Any], namespace: str, stage: str) -> float | None:
    spent = [
        entry["seconds"] for entry in timings.values() if (entry["namespace"], entry["stage"]) == (namespace, stage)
    ]
    return round(sum(spent), 1) if spent else None
