"""Nodes of the capabilities pipeline."""

from typing import Any

from selfie.evaluation.alpaca_files import Record
from selfie.evaluation.capabilities import capability_metrics
from selfie.evaluation.harness import NEUTRAL_TEXT, QUESTIONS, Item, ifeval_task, run_test
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import sampling_arithmetic, scoring_arithmetic
from selfie.runtime.random_seeds import derive_seed

STEP_VERSIONS = {
    "answer_questions": 1,
    "read_neutral_text": 1,
    "follow_instructions": 1,
    "measure_capabilities": 1,
}


def answer_questions(rows: list[Record], policy: Checkpoint, precision: str, *settings: Any) -> list[Item]:
    """Short answers to questions, compared with the right ones; ``settings``: the last ones of ``run_test``."""
    return run_test(QUESTIONS, rows, policy, sampling_arithmetic(precision, policy), *settings)


def read_neutral_text(rows: list[Record], policy: Checkpoint, precision: str, *settings: Any) -> list[Item]:
    """The log-prob of prose of which nothing was trained on; ``settings``: the last ones of ``run_test``."""
    return run_test(NEUTRAL_TEXT, rows, policy, scoring_arithmetic(precision, policy), *settings)


def follow_instructions(
    rows: list[Record], policy: Checkpoint, max_new_tokens: int, precision: str, *settings: Any
) -> list[Item]:
    """IFEval; nothing where its prompts are not there. ``settings``: the last ones of ``run_test``."""
    if not rows:
        return []
    return run_test(ifeval_task(max_new_tokens), rows, policy, sampling_arithmetic(precision, policy), *settings)


def measure_capabilities(samples: int, seed: int, **items: list[Item]) -> dict[str, Any]:
    """Each test's metrics; ``items``: TEST, and initial_TEST for a policy that is compared with the initial model."""
    initial = {name.removeprefix("initial_"): rows for name, rows in items.items() if name.startswith("initial_")}
    tests = {name: rows for name, rows in items.items() if not name.startswith("initial_")}
    return capability_metrics(tests, initial, samples, derive_seed(seed, "bootstrap"))
