"""Nodes of the evaluation pipeline."""

from pathlib import Path
from statistics import mean
from typing import Any

from datasets import Dataset

from selfie.checkpoints import Checkpoint
from selfie.datasets.shards import Shards
from selfie.evaluation.annotate import Record, annotate
from selfie.evaluation.label_audit import audit_labels
from selfie.evaluation.win_rate import length_controlled_win_rate, win_rate, win_rate_interval
from selfie.generation.engine import Sampling
from selfie.generation.sample import sample_responses
from selfie.judges.gold import gold_scorer
from selfie.parameters import EvaluationParameters, GenerationParameters
from selfie.randomness import derive_seed


def generate_outputs(
    evaluation_prompts: Dataset,
    policy: Checkpoint,
    workspace: Path,
    generation: GenerationParameters,
    evaluation: EvaluationParameters,
    max_length: int,
    seed: int,
) -> list[Record]:
    """One answer to each evaluation prompt, in AlpacaEval's format; every policy draws with the same seeds."""
    rows = sample_responses(
        policy,
        evaluation_prompts,
        1,
        Sampling(evaluation.temperature, generation.top_p, evaluation.max_new_tokens),
        engine=generation.engine,
        batch_tokens=generation.batch_tokens,
        max_length=max_length,
        purpose="evaluation",
        seed=seed,
        shards=Shards(workspace, generation.shard_rows),
    )
    name = Path(policy.source).name
    return [
        {"instruction": row["prompt"], "output": row["response"], "generator": name, "tokens": len(row["response_ids"])}
        for row in rows
    ]


def annotate_outputs(
    outputs: list[Record], baseline_outputs: list[Record], evaluation: EvaluationParameters, gold: str | None
) -> list[Record]:
    """The gold annotator's preference between each answer and the initial model's; none without an annotator."""
    if evaluation.annotator == "none" or gold is None:
        return []
    return annotate(outputs, baseline_outputs, gold_scorer(gold), gold)


def measure(
    outputs: list[Record], annotations: list[Record], evaluation: EvaluationParameters, seed: int
) -> dict[str, Any]:
    """Win rates in percent against the initial model, mean length of the answers in characters."""
    metrics: dict[str, Any] = {
        "win_rate": None,
        "win_rate_ci": None,
        "length_controlled_win_rate": None,
        "gold_score": None,
        "avg_length": mean(len(record["output"]) for record in outputs),
    }
    if annotations:
        preferences = [record["preference"] for record in annotations]
        lengths = [[len(record[side]) for record in annotations] for side in ("output_2", "output_1")]
        metrics["win_rate"] = win_rate(preferences)
        metrics["win_rate_ci"] = list(
            win_rate_interval(preferences, evaluation.bootstrap_samples, derive_seed(seed, "bootstrap"))
        )
        metrics["length_controlled_win_rate"] = length_controlled_win_rate(preferences, *lengths)
        metrics["gold_score"] = mean(record["score_2"] for record in annotations)
    return metrics


def audit_pairs(pairs: Dataset, training_log: Dataset, gold: str | None) -> dict[str, Any]:
    """The labels against the gold annotator's; only their number where there is none, or where a human gave them."""
    seeds = pairs[0]["iteration"] == 0
    audit = {} if gold is None or seeds else audit_labels(list(pairs), list(training_log), gold_scorer(gold))
    lengths = {f"avg_{side}_tokens": mean(map(len, pairs[f"{side}_ids"])) for side in ("chosen", "rejected")}
    return {**audit, **lengths, "n_pairs": len(pairs)}
