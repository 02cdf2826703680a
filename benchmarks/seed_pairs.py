"""Which pairs of the initial model's responses are worth a human's label?

``python -m benchmarks.seed_pairs``, after ``make seeds`` and ``kedro run``. As many pairs of each kind are labelled by
the gold annotator, a seed policy is trained on them, and all these judges are asked about the same responses: eight of
policy_1 to each prompt of iteration 2, without those that the token limit cut. Writes ``docs/results/seed_pairs.json``
and prints a table.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from datasets import Dataset

from benchmarks.judge_accuracy import accuracy
from benchmarks.runs_over_seeds import load_catalog
from selfie.config.gold import GoldParameters
from selfie.config.parameters import GenerationParameters
from selfie.config.training import TrainingParameters
from selfie.generation.engine import Sampling
from selfie.generation.sampling import sample_responses
from selfie.judges.gold import gold_scorer
from selfie.judges.preference_pairs import build_pairs
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import Arithmetic, sampling_arithmetic
from selfie.pipelines.training.nodes import train_policy
from selfie.reporting.tables import markdown_table
from selfie.scoring.log_probs import score

RESULT = Path("docs/results/seed_pairs.json")
PAIRS, SAMPLES = 72, 8
# name → whether the rejected response may be one that was cut, and how many checks lie between them
KINDS = {
    "whole against any, 2 checks apart": (True, 2),
    "whole against whole, 1 check apart": (False, 1),
    "whole against whole, 2 checks apart": (False, 2),
}


@click.command()
def main() -> None:
    """Trains a judge on each kind of pairs and asks it about the same responses."""
    catalog = load_catalog(Path.cwd())
    scorer: Any = gold_scorer(GoldParameters.model_validate(catalog.load("params:gold")))
    seeding = TrainingParameters.model_validate(catalog.load("params:seeding"))
    precision, beta, seed = (catalog.load(f"params:{name}") for name in ("precision.training", "beta", "seed"))
    batch_tokens = catalog.load("params:judging.batch_tokens")
    initial, candidates = catalog.load("initial_model"), catalog.load("seed_responses")
    candidates = candidates.add_column("iteration", np.zeros(len(candidates), dtype=np.int64))
    scores = torch.tensor([_passed(scorer, row) for row in candidates], dtype=torch.float64)
    asked = whole_responses(catalog.load("policy_1"), catalog.load("iteration_2.prompts"), catalog)
    before = _log_probs(initial, asked, batch_tokens)
    checks = [scorer.checks(row["prompt"], row["response"]) for row in asked]
    results = {}
    for kind, (cut, apart) in KINDS.items():
        labelled = clear_pairs(candidates, scores, cut, apart).shuffle(seed=seed)
        pairs = labelled.select(range(min(PAIRS, len(labelled))))
        with tempfile.TemporaryDirectory() as folder:
            policy, _ = train_policy(pairs, initial, Path(folder), seeding, precision, beta, seed)
            log_probs = _log_probs(policy, asked, batch_tokens)
        rewards = (log_probs - before) / np.array([len(row["response_ids"]) for row in asked])
        results[kind] = {"pairs": len(pairs), **by_check([row["prompt_id"] for row in asked], rewards, checks)}
    RESULT.write_text(json.dumps({"responses": len(asked), "kinds": results}, indent=1) + "\n")
    click.echo(table(results))


def clear_pairs(responses: Dataset, checks_passed: torch.Tensor, cut: bool, apart: int) -> Dataset:
    """Each prompt's best whole response against the worst one, where ``apart`` checks or more lie between them.

    Args:
        responses: rows with ``finish_reason``, as :func:`build_pairs` takes them.
        checks_passed: of each response, shape [rows].
        cut: whether the worst one may be one that the token limit cut.
        apart: checks.
    """
    whole = torch.tensor([reason == "stop" for reason in responses["finish_reason"]])
    pairs = build_pairs(responses, checks_passed, outside=None if cut else ~whole, eligible=whole)
    return pairs.select(np.flatnonzero(np.array(pairs["margin"][:]) >= apart))


def whole_responses(policy: Checkpoint, prompts: Dataset, catalog: Any) -> list[dict[str, Any]]:
    """The policy's samples, without those that the token limit cut."""
    generation = GenerationParameters.model_validate(catalog.load("params:generation"))
    sampled = sample_responses(
        policy,
        prompts,
        SAMPLES,
        Sampling(generation.temperature, generation.top_p, generation.max_new_tokens),
        engine=generation.engine,
        batch_tokens=generation.batch_tokens,
        max_length=catalog.load("params:max_length"),
        purpose="seed_pairs",
        seed=catalog.load("params:seed"),
        arithmetic=sampling_arithmetic(catalog.load("params:precision.sampling"), policy),
    )
    return [row for row in sampled if row["finish_reason"] == "stop"]


def by_check(prompts: Sequence[str], rewards: np.ndarray, checks: Sequence[Mapping[str, bool]]) -> dict[str, Any]:
    """How often a judge prefers what passes more checks, and ``by_check``, what passes a check that the other fails.

    Args:
        prompts: the prompt of each response, a prompt's responses together.
        rewards: the judge's, shape [responses].
        checks: each response's.
    """
    all_checks = accuracy(prompts, rewards, [sum(passed.values()) for passed in checks])
    each = {name: accuracy(prompts, rewards, [passed[name] for passed in checks])["accuracy"] for name in checks[0]}
    return {**all_checks, "by_check": each}


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """In Markdown, a row a kind of pairs."""
    names = next(iter(results.values()))["by_check"]
    rows = [
        [
            kind,
            str(found["pairs"]),
            "{:.2f} [{:.2f}, {:.2f}]".format(found["accuracy"], *found["ci"]),
            *("–" if share is None else f"{share:.2f}" for share in found["by_check"].values()),
        ]
        for kind, found in results.items()
    ]
    return markdown_table(["labelled pairs", "number", "right", *(name.replace("_", " ") for name in names)], rows)


def _passed(scorer: Any, row: Mapping[str, Any]) -> int:
    return sum(scorer.checks(row["prompt"], row["response"]).values())


def _log_probs(model: Checkpoint, rows: Sequence[Mapping[str, Any]], batch_tokens: int) -> np.ndarray:
    columns = [row["prompt_ids"] for row in rows], [row["response_ids"] for row in rows]
    return np.asarray(score(model, *columns, batch_tokens, model.name, None, Arithmetic.FLOAT32))


if __name__ == "__main__":
    main()
