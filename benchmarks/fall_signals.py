"""Which figure of a policy's answers tells, without an annotator, that it has fallen behind an earlier one of its run?

``python -m benchmarks.fall_signals`` reads the runs that ``make synthetic`` left, and prints a Markdown table.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import click
import numpy as np
import torch
from datasets import load_from_disk
from torch import Tensor

from benchmarks.runs_over_seeds import data_folder
from selfie.preference.support import outside_support, response_statistics, support_bounds
from selfie.reporting.tables import markdown_table

FALLEN = 3.0  # points of win rate below the best earlier policy of the run: beyond what 200 prompts leave to chance
PERCENTILE = 1.0
SIGNALS = {
    "outside": "share of answers outside the initial model's support",
    "repeated": "repeated token pairs",
    "length": "mean length",
    "log_prob": "mean log π_init of a token",
    "distinct_2": "distinct word pairs",
    "kl_from_initial": "KL from the initial model",
    "perplexity_ratio": "perplexity ratio",
}


@click.command()
def main() -> None:
    """Prints, for each signal, how often it is higher in a fallen policy than in one at its run's best so far."""
    data = data_folder()
    runs = sorted((data / "08_reporting" / "synthetic" / "runs").glob("*_*.json"))
    records = [record for run in runs for record in _records(data, _load(run))]
    fallen = [record for record in records if record["drop"] > FALLEN]
    best = [record for record in records if record["drop"] <= 0]
    methods = ", ".join(sorted({record["method"] for record in fallen}))
    click.echo(f"{len(records)} policies, {len(fallen)} fallen ({methods}), {len(best)} at their run's best so far\n")
    rows = [
        [title, f"{_higher([r[name] for r in fallen], [r[name] for r in best]):.2f}"] for name, title in SIGNALS.items()
    ]
    click.echo(markdown_table(["signal", "higher in the fallen one"], rows))
    by_method = [
        [method, f"{np.mean([r['outside'] for r in records if r['method'] == method and r['last']]):.2f}"]
        for method in dict.fromkeys(record["method"] for record in records)
    ]
    click.echo(markdown_table(["method", "answers of the last policy outside the support"], by_method))
    estimates = [_reliability(data, run, number) for run in map(_load, runs) for number in _self_labelled(run)]
    low, high = min(estimates), max(estimates)
    click.echo(f"RE-PO's reliability by maximum likelihood, {len(estimates)} iterations: {low:.3f} to {high:.3f}")


def _load(run: Path) -> dict:
    return json.loads(run.read_text())


def _self_labelled(run: dict) -> range:
    """The numbers of the iterations whose pairs the policy's implicit reward labelled."""
    other = ("gold_judge", "llm_judge", "reward_model")
    return range(1, len(run["summary"]["iterations"]) - 1) if run["method"] not in other else range(0)


def _reliability(data: Path, run: dict, number: int) -> float:
    """η of RE-PO (arXiv 2509.24159): where Σ log[η·σ(m) + (1 − η)·σ(−m)] is largest in [0.01, 0.99], in steps of 0.005.

    m are the margins of the second half of the steps, each from before its pair's own step.
    """
    folder = data / "06_models" / f"synthetic_{run['seed']}_{run['method']}" / f"iteration_{number}_training_log"
    log = load_from_disk(str(folder)).to_pandas()
    margins = torch.tensor(log.loc[log["step"] > log["step"].max() / 2, "margin"].to_numpy(), dtype=torch.float64)
    grid = torch.linspace(0.01, 0.99, 197, dtype=torch.float64)[:, None]
    likelihood = (grid * margins.sigmoid() + (1 - grid) * (-margins).sigmoid()).log().sum(dim=1)
    return float(grid[likelihood.argmax()])


def _records(data: Path, run: dict) -> list[dict]:
    """One record for each policy of an iteration: its signals relative to the initial model, and its ``drop``."""
    experiment = f"synthetic_{run['seed']}_{run['method']}"
    initial = _statistics(data, experiment, "initial")
    bounds = support_bounds(initial, PERCENTILE)
    policies = run["summary"]["iterations"][1:]
    records = []
    for number, policy in enumerate(policies[1:], start=1):
        answers = _statistics(data, experiment, f"iteration_{number}")
        length, repeated, log_prob = (answers.mean(dim=0) - initial.mean(dim=0)).tolist()
        records.append(
            {
                **{name: policy[name] for name in ("kl_from_initial", "perplexity_ratio")},
                "distinct_2": (policy["distinct_2"] or 0.0) / run["summary"]["iterations"][0]["distinct_2"],
                "outside": outside_support(answers, bounds).double().mean().item(),
                "length": length,
                "repeated": repeated,
                "log_prob": log_prob,
                "drop": max(earlier["win_rate"] for earlier in policies[:number]) - policy["win_rate"],
                "method": run["method"],
                "last": number == len(policies) - 1,
            }
        )
    return records


def _statistics(data: Path, experiment: str, namespace: str) -> Tensor:
    """Of a policy's answers to the evaluation prompts, as the support guard computes them."""
    answers = json.loads((data / "07_model_output" / experiment / namespace / "model_outputs.json").read_text())
    scores = load_from_disk(str(data / "04_feature" / experiment / namespace / "answer_scores"))
    log_probs = torch.tensor(scores["log_prob"][:], dtype=torch.float64)
    return response_statistics([answer["response_ids"] for answer in answers], log_probs)


def _higher(fallen: Iterable[float], best: Iterable[float]) -> float:
    """P(a fallen policy's value > another's), ties half: the area under the ROC curve."""
    difference = np.subtract.outer(np.array(list(fallen)), np.array(list(best)))
    return float((difference > 0).mean() + (difference == 0).mean() / 2)


if __name__ == "__main__":
    main()
