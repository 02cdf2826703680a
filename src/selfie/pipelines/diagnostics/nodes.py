"""Nodes of the diagnostics pipeline."""

from typing import Any

from datasets import Dataset
from plotly.graph_objects import Figure

from selfie.config.gold import GoldParameters
from selfie.config.parameters import JudgingParameters
from selfie.diagnostics.calibration import calibration_error, calibration_error_by_chance, reliability, share_interval
from selfie.diagnostics.diversity import distinct, repetition
from selfie.diagnostics.drift import flips, kl_from_initial, rejudge
from selfie.diagnostics.examples import flagged_pairs, pick_examples
from selfie.diagnostics.lengths import length_bias
from selfie.diagnostics.sanity import answers_under_initial, find_drift, score_under_initial
from selfie.diagnostics.style_guide import guide_of, part_of, style_guide_shares
from selfie.evaluation.annotate import Record
from selfie.evaluation.label_audit import wrong_labels
from selfie.generation.sampling import sampled_by
from selfie.judges.gold import Scorer, gold_scorer
from selfie.judges.support import beyond_bounds, measure_bounds
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import Arithmetic, sampling_arithmetic
from selfie.reporting.label_figures import lengths_figure, margins_figure, reliability_figure
from selfie.reporting.sections import section_of
from selfie.reporting.summary import ROUNDING
from selfie.runtime.random_seeds import derive_seed

STEP_VERSIONS = {
    "rejudge_pairs": 1,
    "score_answers": 2,
    "measure_style_guide": 1,
    "diagnose_answers": 2,
    "diagnose_seeds": 2,
    "diagnose_iteration": 2,
    "detect_drift": 1,
    "choose_examples": 1,
    "plot_labels": 1,
    "plot_lengths": 1,
    "compose_section": 2,
}


def rejudge_pairs(
    pairs: Dataset,
    scored_responses: Dataset,
    policy: Checkpoint,
    precision: dict[str, Any],
    parameters: JudgingParameters,
    beta: float,
    seed: int,
) -> Dataset:
    """The pairs' margins under the policy that was trained on them."""
    return rejudge(pairs, scored_responses, policy, parameters, beta, seed, Arithmetic(precision["scoring"]))


def score_answers(
    outputs: list[Record], initial_model: Checkpoint, batch_tokens: int, precision: str, seed: int
) -> Dataset:
    """The initial model's log-probs of the answers, after their own questions and after others.

    In the evaluation's arithmetic: they are sums over all answers and differences of many nats.
    """
    arithmetic = sampling_arithmetic(precision, initial_model)
    return score_under_initial(outputs, initial_model, batch_tokens, seed, arithmetic)


def measure_style_guide(
    outputs: list[Record], gold: GoldParameters | None, samples: int, seed: int, **earlier: list[Record]
) -> dict[str, Any]:
    """The share of answers that follow the style guide, where there is one; ``earlier``: other policies' answers."""
    scorer = _scorer(gold)
    guide, part = guide_of(scorer), part_of(scorer)
    shares = guide and style_guide_shares(outputs, guide, earlier, samples, derive_seed(seed, "style guide"), part)
    return {"style_guide": shares}


def diagnose_answers(outputs: list[Record], answer_scores: Dataset) -> dict[str, Any]:
    """Diversity and sense of the answers to the evaluation prompts, which are the same for every policy."""
    texts = [record["output"] for record in outputs]
    diversity = {"distinct_1": distinct(texts, 1), "distinct_2": distinct(texts, 2), "repetition": repetition(texts)}
    return {**diversity, **answers_under_initial(outputs, answer_scores)}


def diagnose_seeds(pairs: Dataset, outputs: list[Record], answer_scores: Dataset) -> dict[str, Any]:
    """The answers' diversity and sense, and whether the human's labels follow the length."""
    return {**diagnose_answers(outputs, answer_scores), **_length_bias(pairs)}


def diagnose_iteration(
    pairs: Dataset,
    scored_responses: Dataset,
    rejudged_pairs: Dataset,
    precision: dict[str, Any],
    outputs: list[Record],
    answer_scores: Dataset,
    gold: GoldParameters | None,
    support_percentile: float,
    seed: int,
) -> dict[str, Any]:
    """Diversity, sense, length bias, drift, rounding; with a gold annotator the labels' calibration."""
    own = sampled_by(scored_responses, "policy")
    outside = None
    if support_percentile:
        bounds = measure_bounds(sampled_by(scored_responses, "initial"), support_percentile)
        outside = float(beyond_bounds(own, bounds).double().mean())
    return {
        **diagnose_seeds(pairs, outputs, answer_scores),
        **kl_from_initial(own),
        **flips(rejudged_pairs["next_margin"]),
        "outside_support": outside,
        **{name: precision[name] for name in ROUNDING},
        **_calibration(pairs, gold, seed),
    }


def detect_drift(
    evaluation: dict[str, Any],
    style_guide: dict[str, Any],
    diagnostics: dict[str, Any],
    initial_diagnostics: dict[str, Any],
) -> dict[str, Any]:
    """Whether the policy wins with answers that make less sense than the initial model's."""
    change = (style_guide["style_guide"] or {}).get("change_from_initial_ci")
    return find_drift(diagnostics, initial_diagnostics, evaluation["win_rate_ci"], change)


def choose_examples(pairs: Dataset, training_log: Dataset, gold: GoldParameters | None) -> list[dict[str, Any]]:
    """The judge's surest pairs, its worst, and those that the detector flagged."""
    return pick_examples(_texts(pairs, "margin"), flagged_pairs(training_log), _wrong(pairs, gold))


def plot_labels(pairs: Dataset, training_log: Dataset, gold: GoldParameters | None) -> tuple[Figure, Figure, Figure]:
    """Reliability of the preference probability, margins by flag, lengths."""
    wrong = _wrong(pairs, gold)
    chances, right = _judged(pairs, wrong)
    return (
        reliability_figure(reliability(chances, right) if chances else []),
        margins_figure(pairs.select_columns(["pair", "margin"]), flagged_pairs(training_log), wrong),
        plot_lengths(pairs),
    )


def plot_lengths(pairs: Dataset) -> Figure:
    """Lengths of chosen and rejected."""
    return lengths_figure(*_lengths(pairs))


def compose_section(
    outputs: list[Record],
    baseline_outputs: list[Record],
    annotations: list[Record],
    gold: GoldParameters | None,
    **shown: Any,
) -> dict[str, Any]:
    """This namespace's part of the report; ``shown``: ``examples`` and figures."""
    examples = shown.pop("examples", [])
    return section_of(outputs, baseline_outputs, annotations, examples, shown, guide_of(_scorer(gold)))


def _scorer(gold: GoldParameters | None) -> Scorer | None:
    return None if gold is None else gold_scorer(gold)


def _wrong(pairs: Dataset, gold: GoldParameters | None) -> dict[int, bool]:
    return {} if gold is None else wrong_labels(_texts(pairs), gold_scorer(gold))


def _texts(pairs: Dataset, *more: str) -> Dataset:
    return pairs.select_columns(["pair", "prompt", "chosen", "rejected", *more])


def _judged(pairs: Dataset, wrong: dict[int, bool]) -> tuple[list[float], list[bool]]:
    """The judge's probabilities of the pairs that the annotator has judged, and whether it agrees."""
    known = [pair for pair in pairs.select_columns(["pair", "probability"]) if pair["pair"] in wrong]
    return [pair["probability"] for pair in known], [not wrong[pair["pair"]] for pair in known]


def _lengths(pairs: Dataset) -> tuple[list[int], list[int]]:
    chosen, rejected = ([len(ids) for ids in pairs[f"{side}_ids"]] for side in ("chosen", "rejected"))
    return chosen, rejected


def _length_bias(pairs: Dataset) -> dict[str, Any]:
    margins = pairs["margin"][:] if "margin" in pairs.column_names else None
    return length_bias(*_lengths(pairs), margins)


def _calibration(pairs: Dataset, gold: GoldParameters | None, seed: int) -> dict[str, Any]:
    chances, right = _judged(pairs, _wrong(pairs, gold))
    return {
        "label_accuracy_ci": share_interval(sum(right), len(right)),
        "ece": calibration_error(chances, right),
        "ece_by_chance": calibration_error_by_chance(chances, derive_seed(seed, "calibration")),
    }
