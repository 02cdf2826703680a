"""Nodes of the evaluation pipelines."""

from pathlib import Path
from statistics import mean
from typing import Any

import pandas as pd
from datasets import Dataset
from pydantic import SecretStr

from selfie.config.execution import DEFAULT_EXECUTION, ExecutionParameters
from selfie.config.gold import GoldParameters
from selfie.config.parameters import (
    AnnotationParameters,
    EvaluationParameters,
    GenerationParameters,
    JudgePrompts,
)
from selfie.evaluation.alpaca_files import Record
from selfie.evaluation.annotate import AnnotationOptions, annotate
from selfie.evaluation.annotation_audit import audit_annotations
from selfie.evaluation.label_audit import audit_labels
from selfie.evaluation.leaderboard import leaderboard_of
from selfie.evaluation.mt_bench import Grader, answer_questions, grade_answers, mean_grades
from selfie.evaluation.significance import compare_win_rates, preferences_by
from selfie.evaluation.win_rate import length_controlled_win_rate, win_rate, win_rate_interval
from selfie.generation.engine import Sampling
from selfie.generation.sampling import sample_responses
from selfie.judges.gold import gold_scorer
from selfie.judges.open_annotator import open_annotator
from selfie.judges.openai_client import ChatClient
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import sampling_arithmetic
from selfie.runtime.random_seeds import derive_seed
from selfie.storage.annotation_cache import AnnotationCache
from selfie.storage.shards import Shards

STEP_VERSIONS = {
    "generate_outputs": 2,
    "annotate_outputs": 1,
    "measure": 1,
    "rank": 1,
    "audit_pairs": 1,
    "answer_mt_bench": 1,
    "grade_mt_bench": 1,
    "measure_mt_bench": 1,
}


def generate_outputs(
    evaluation_prompts: Dataset,
    policy: Checkpoint,
    workspace: Path,
    generation: GenerationParameters,
    temperature: float,
    max_new_tokens: int,
    precision: str,
    max_length: int,
    seed: int,
    execution: ExecutionParameters = DEFAULT_EXECUTION,
) -> list[Record]:
    """One answer to each evaluation prompt, in AlpacaEval's format; every policy draws with the same seeds.

    A conversation of several turns is the ``instruction`` as text, and beside it as ``messages``. Other tools pass over
    what the format lacks: ``tokens``, ``response_ids`` and ``finish_reason`` as the engine gave them.
    """
    rows = sample_responses(
        policy,
        evaluation_prompts,
        1,
        Sampling(temperature, generation.top_p, max_new_tokens),
        engine=generation.engine,
        batch_tokens=generation.batch_tokens,
        max_length=max_length,
        purpose="evaluation",
        seed=seed,
        shards=Shards(workspace, generation.shard_rows, execution),
        arithmetic=sampling_arithmetic(precision, policy),
    )
    name = Path(policy.source).name
    return [
        {
            "instruction": row["prompt"],
            "output": row["response"],
            "generator": name,
            "tokens": len(row["response_ids"]),
            "response_ids": row["response_ids"],
            "finish_reason": row["finish_reason"],
            **({"messages": row["messages"]} if len(row["messages"]) > 1 else {}),
        }
        for row in rows
    ]


def annotate_outputs(
    outputs: list[Record],
    baseline_outputs: list[Record],
    annotator_name: str,
    annotation: AnnotationParameters,
    prompts: JudgePrompts,
    gold: GoldParameters | None,
    precision: str,
    cache: AnnotationCache,
    key: SecretStr,
    seed: int,
) -> list[Record]:
    """The annotator's preference between each answer and the baseline's; none without an annotator."""
    annotator = open_annotator(annotator_name, annotation, prompts, gold, key, precision)
    if annotator is None:
        return []
    return annotate(
        outputs, baseline_outputs, annotator, AnnotationOptions(annotation.order, annotation.max_failures, seed), cache
    )


def measure(
    outputs: list[Record],
    annotations: list[Record],
    evaluation: EvaluationParameters,
    seed: int,
    previous_annotations: list[Record] | None = None,
) -> dict[str, Any]:
    """Win rates in percent against the baseline and their change since the previous policy; length in characters."""
    samples, draw = evaluation.bootstrap_samples, derive_seed(seed, "bootstrap")
    metrics: dict[str, Any] = {
        "win_rate": None,
        "win_rate_ci": None,
        "length_controlled_win_rate": None,
        "gold_score": None,
        "avg_length": mean(len(record["output"]) for record in outputs),
        **audit_annotations(annotations, samples, draw),
    }
    judged = [record for record in annotations if record["preference"] is not None]
    if judged:
        preferences = [record["preference"] for record in judged]
        lengths = [[len(record[side]) for record in judged] for side in ("output_2", "output_1")]
        metrics["win_rate"] = win_rate(preferences)
        metrics["win_rate_ci"] = list(win_rate_interval(preferences, samples, draw))
        metrics["length_controlled_win_rate"] = length_controlled_win_rate(preferences, *lengths)
        if evaluation.annotator == "gold":
            metrics["gold_score"] = mean(record["score_2"] for record in judged)
    if previous_annotations is not None:
        now, before = (preferences_by(rows, "instruction") for rows in (annotations, previous_annotations))
        metrics |= compare_win_rates(now, before, samples, draw)
    return metrics


def rank(*annotations: list[Record]) -> pd.DataFrame:
    """AlpacaEval's leaderboard of those who were judged."""
    return leaderboard_of(annotations)


def audit_pairs(pairs: Dataset, training_log: Dataset, gold: GoldParameters | None) -> dict[str, Any]:
    """The labels against the gold annotator's; only their number where there is none, or where a human gave them."""
    seeds = pairs[0]["iteration"] == 0
    texts = pairs.select_columns(["pair", "prompt", "chosen", "rejected"])
    audit = {} if gold is None or seeds else audit_labels(texts, training_log, gold_scorer(gold))
    lengths = {f"avg_{side}_tokens": mean(map(len, pairs[f"{side}_ids"])) for side in ("chosen", "rejected")}
    return {**audit, **lengths, "n_pairs": len(pairs)}


def answer_mt_bench(
    questions: list[Record],
    policy: Checkpoint,
    workspace: Path,
    generation: GenerationParameters,
    temperature: float,
    max_new_tokens: int,
    precision: str,
    max_length: int,
    seed: int,
    execution: ExecutionParameters = DEFAULT_EXECUTION,
) -> list[Record]:
    """The policy's answers to both turns of each question."""
    return answer_questions(
        questions,
        policy,
        Sampling(temperature, generation.top_p, max_new_tokens),
        engine=generation.engine,
        batch_tokens=generation.batch_tokens,
        max_length=max_length,
        seed=seed,
        shards=Shards(workspace, generation.shard_rows, execution),
        arithmetic=sampling_arithmetic(precision, policy),
    )


def grade_mt_bench(
    answers: list[Record],
    annotation: AnnotationParameters,
    prompts: JudgePrompts,
    cache: AnnotationCache,
    key: SecretStr,
) -> list[Record]:
    """The endpoint's grade of each answer, from 1 to 10."""
    grader = Grader(ChatClient(annotation.endpoint, key), prompts.grading)
    return grade_answers(answers, grader, cache, annotation.max_failures)


def measure_mt_bench(grades: list[Record], evaluation: EvaluationParameters, seed: int) -> dict[str, Any]:
    """Mean grades, by turn and by category."""
    return mean_grades(grades, evaluation.bootstrap_samples, derive_seed(seed, "bootstrap"))
