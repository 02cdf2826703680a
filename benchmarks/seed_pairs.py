"""Which pairs of the initial model's responses are worth a human's label?

``python -m benchmarks.seed_pairs``, after ``make seeds`` and ``kedro run``. As many pairs of each kind are labelled by
the gold annotator, a seed policy is trained on them (unless it is there from before), and all these judges are asked
about the same responses: eight of policy_1 to each prompt of iteration 2, without those that the token limit cut.
Writes ``docs/results/seed_pairs.json`` and prints a table.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby, permutations
from pathlib import Path
from typing import Any

import click
import numpy as np
from datasets import Dataset

from selfie.config.gold import GoldParameters
from selfie.config.parameters import GenerationParameters, TrainingParameters
from selfie.datasets import RowsDataset
from selfie.generation.engine import Sampling
from selfie.generation.sampling import sample_responses
from selfie.judges.gold import gold_scorer
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import Arithmetic, sampling_arithmetic
from selfie.pipelines.training.nodes import train_policy
from selfie.reporting.tables import markdown_table
from selfie.scoring.log_probs import score

RESULT = Path("docs/results/seed_pairs.json")
RESAMPLES = 9999
BATCH_TOKENS = 8192
Row = Mapping[str, Any]
Score = Callable[[Row], float]
# name → whether the rejected response may be one that was cut, and how many of the seven checks lie between them
KINDS = {
    "whole against any, 2 checks apart": (True, 2),
    "whole against whole, 1 check apart": (False, 1),
    "whole against whole, 2 checks apart": (False, 2),
}


@click.command()
@click.option("--experiment", default="demo", show_default=True)
@click.option("--pairs", default=72, show_default=True, help="Pairs of each kind.")
@click.option("--samples", default=8, show_default=True, help="Responses a prompt that the judges are asked about.")
def main(experiment: str, pairs: int, samples: int) -> None:
    """Trains a judge on each kind of pairs and asks it about the same responses."""
    data = Path(os.environ.get("SELFIE_DATA", "data"))
    parameters = _parameters()
    scorer: Any = gold_scorer(GoldParameters.model_validate(parameters["gold"]))
    initial = Checkpoint(str(data / "06_models" / "smollm2-135m-instruct"))
    candidates = RowsDataset(filepath=str(data / "03_primary" / experiment / "seed_responses")).load()
    prompts = RowsDataset(filepath=str(data / "02_intermediate" / experiment / "iteration_2" / "prompts")).load()
    policy_1 = Checkpoint(str(data / "06_models" / experiment / "policy_1"))
    asked = whole_responses(policy_1, prompts, samples, parameters)
    columns = [row["prompt_ids"] for row in asked], [row["response_ids"] for row in asked]
    before = np.asarray(score(initial, *columns, BATCH_TOKENS, "initial model", None, Arithmetic.FLOAT32))
    checks = [scorer.checks(row["prompt"], row["response"]) for row in asked]
    results = {}
    for kind, (cut, apart) in KINDS.items():
        chosen = list(label(candidates, lambda row: scorer(row["prompt"], row["response"]), cut, apart / 7 - 1e-6))
        rng = np.random.default_rng(parameters["seed"])
        used = [chosen[i] for i in rng.permutation(len(chosen))[:pairs]]
        folder = data / "06_models" / "seed_pairs" / f"{'any' if cut else 'whole'}_{apart}"
        policy = Checkpoint(str(folder / "policy"))
        if not Path(policy.source).is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            seeding = TrainingParameters.model_validate(parameters["seeding"])
            settings = seeding, "auto", parameters["beta"], parameters["seed"]
            policy, _ = train_policy(training_rows(used), initial, folder, *settings)
        log_probs = np.asarray(score(policy, *columns, BATCH_TOKENS, "seed policy", None, Arithmetic.FLOAT32))
        rewards = (log_probs - before) / np.array(list(map(len, columns[1])))
        results[kind] = {"pairs": len(used), **accuracy([row["prompt_id"] for row in asked], rewards, checks)}
    RESULT.write_text(json.dumps({"responses": len(asked), "kinds": results}, indent=1) + "\n")
    click.echo(table(results))


def whole_responses(policy: Checkpoint, prompts: Dataset, samples: int, parameters: Mapping[str, Any]) -> list[Row]:
    """``samples`` of the policy to each prompt, without those that the token limit cut."""
    generation = GenerationParameters.model_validate(parameters["generation"])
    sampled = sample_responses(
        policy,
        prompts,
        samples,
        Sampling(generation.temperature, generation.top_p, generation.max_new_tokens),
        engine=generation.engine,
        batch_tokens=generation.batch_tokens,
        max_length=parameters["max_length"],
        purpose="seed_pairs",
        seed=parameters["seed"],
        arithmetic=sampling_arithmetic("auto", policy),
    )
    return [row for row in sampled if row["finish_reason"] == "stop"]


def label(responses: Dataset, scorer: Score, cut: bool, gap: float) -> Iterator[tuple[Row, Row]]:
    """Of each prompt the best whole response and the worst one, whole too unless ``cut``, at least ``gap`` apart."""
    for _, group in groupby(responses, key=lambda row: row["prompt_id"]):
        ranked = sorted(group, key=scorer)
        whole = [row for row in ranked if row["finish_reason"] == "stop"]
        others = ranked if cut else whole
        if whole and scorer(whole[-1]) - scorer(others[0]) >= gap:
            yield whole[-1], others[0]


def training_rows(pairs: Sequence[tuple[Row, Row]]) -> Dataset:
    """As the trainer takes them."""
    return Dataset.from_list(
        [
            {
                "pair": number,
                "iteration": 0,
                "prompt_ids": chosen["prompt_ids"],
                "chosen_ids": chosen["response_ids"],
                "rejected_ids": rejected["response_ids"],
            }
            for number, (chosen, rejected) in enumerate(pairs)
        ]
    )


def accuracy(prompts: Sequence[str], rewards: np.ndarray, checks: Sequence[Mapping[str, bool]]) -> dict[str, Any]:
    """How often a judge prefers what passes more checks, over every two responses to one prompt.

    Args:
        prompts: the prompt of each response, a prompt's responses together.
        rewards: the judge's, shape [responses].
        checks: each response's.

    Returns:
        ``accuracy`` with its 95% interval ``ci`` (bootstrap over prompts), ``compared`` pairs that differ in how many
        checks they pass, and ``by_check``, the same share over the pairs that differ in one check.
    """
    right: dict[str, list[tuple[str, bool]]] = {name: [] for name in ("all", *checks[0])}
    for prompt, group in groupby(range(len(prompts)), key=lambda i: prompts[i]):
        for one, two in permutations(group, 2):
            preferred = bool(rewards[one] > rewards[two])
            if sum(checks[one].values()) > sum(checks[two].values()):
                right["all"].append((prompt, preferred))
            for name in checks[0]:
                if checks[one][name] and not checks[two][name]:
                    right[name].append((prompt, preferred))
    return {
        "accuracy": _share(right["all"]),
        "ci": _interval(right["all"]),
        "compared": len(right["all"]),
        "by_check": {name: _share(found) for name, found in right.items() if name != "all"},
    }


def _share(found: Sequence[tuple[str, bool]]) -> float | None:
    return float(np.mean([preferred for _, preferred in found])) if found else None


def _interval(found: Sequence[tuple[str, bool]]) -> list[float]:
    counts = np.array(
        [
            (sum(preferred for _, preferred in answers), len(answers))
            for answers in (list(group) for _, group in groupby(found, key=lambda answer: answer[0]))
        ]
    )
    drawn = np.random.default_rng(0).integers(len(counts), size=(RESAMPLES, len(counts)))
    rights, compared = counts[drawn].sum(axis=1).T
    return [float(bound) for bound in np.quantile(rights / compared, [0.025, 0.975])]


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


def _parameters() -> dict[str, Any]:
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(Path.cwd())
    session: Any = KedroSession.create(Path.cwd())
    with session:
        parameters: dict[str, Any] = session.load_context().params
    return parameters


if __name__ == "__main__":
    main()
