"""Is the average of a run's last policies better than the last one? It costs no training.

``python -m benchmarks.policy_average --method selfie`` reads the runs that ``make synthetic`` left, and prints a table.
The average of the last policies' weights is scaled to the last one's distance from the initial model: an average of
policies is nearer to it than they are. Weights of policies trained one from another may be averaged: model soups
(Wortsman et al., arXiv 2203.05482), for aligned policies WARP (Ramé et al., arXiv 2406.16768).
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import click
import torch
from transformers import PreTrainedModel

from benchmarks.runs_over_seeds import data_folder, load_catalog
from selfie.config.gold import GoldParameters
from selfie.config.parameters import EvaluationParameters, GenerationParameters
from selfie.evaluation.annotate import annotate
from selfie.evaluation.win_rate import mean_interval, win_rate
from selfie.export.weights import extrapolate
from selfie.judges.comparisons import ScorerAnnotator
from selfie.judges.gold import gold_scorer
from selfie.models.checkpoint import Checkpoint
from selfie.pipelines.evaluation.nodes import generate_outputs
from selfie.reporting.tables import markdown_table

CPU = torch.device("cpu")
RESAMPLES = 9999


@click.command()
@click.option("--method", default="selfie", show_default=True, help="A name in methods.yml.")
@click.option("--last", default=3, show_default=True, help="How many policies are averaged.")
def main(method: str, last: int) -> None:
    """Prints the win rates of the last policy and of the average, by seed, and their paired difference."""
    data = data_folder()
    found = sorted((data / "08_reporting" / "synthetic" / "runs").glob(f"{method}_*.json"))
    runs = sorted((json.loads(run.read_text()) for run in found), key=lambda run: run["seed"])
    if not runs:
        raise click.ClickException(f"no run of {method} in {data}: make synthetic METHODS={method}")
    rows, lasts, averages = [], [], []
    for run in runs:
        trained = run["summary"]["iterations"][1:]
        lasts.append(trained[-1]["win_rate"])
        averages.append(_win_rate(data, run["seed"], f"synthetic_{run['seed']}_{method}", range(len(trained))[-last:]))
        by_policy = " → ".join(f"{policy['win_rate']:.1f}" for policy in trained)
        rows.append([str(run["seed"]), by_policy, f"{averages[-1]:.1f}"])
    click.echo(markdown_table(["seed", "policy_0 → last", f"average of the last {last}"], rows))
    for name, values in (("last policy", lasts), ("average", averages)):
        click.echo(f"{name}: {mean(values):.1f} on average, {min(values):.1f} at worst")
    differences = [average - alone for average, alone in zip(averages, lasts, strict=True)]
    low, high = mean_interval(differences, RESAMPLES, seed=0)
    click.echo(f"difference: {mean(differences):+.1f} [{low:+.1f}, {high:+.1f}]")


def _win_rate(data: Path, seed: int, experiment: str, numbers: Sequence[int]) -> float:
    """Of the averaged policy over the initial model's answers, in percent, by the run's own evaluation."""
    catalog = load_catalog(Path.cwd(), "synthetic", experiment=experiment, seed=seed)
    evaluation = EvaluationParameters.model_validate(catalog.load("params:evaluation"))
    gold = GoldParameters.model_validate(catalog.load("params:gold"))
    annotator = ScorerAnnotator(gold.annotator, gold_scorer(gold))
    policies = [Checkpoint(str(data / "06_models" / experiment / f"policy_{number}")) for number in numbers]
    initial = Checkpoint(str(data / "06_models" / "synthetic" / f"seed_{seed}" / "initial_model"))
    with tempfile.TemporaryDirectory() as folder:
        averaged(policies, initial).save_pretrained(f"{folder}/average")
        policies[-1].load_tokenizer().save_pretrained(f"{folder}/average")
        answers = generate_outputs(
            catalog.load("evaluation_prompts"),
            Checkpoint(f"{folder}/average"),
            Path(folder) / "workspace",
            GenerationParameters.model_validate(catalog.load("params:generation")),
            evaluation.temperature,
            evaluation.max_new_tokens,
            "auto",
            catalog.load("params:max_length"),
            seed,
        )
    theirs = json.loads((data / "07_model_output" / experiment / "initial" / "model_outputs.json").read_text())
    return win_rate([verdict["preference"] for verdict in annotate(answers, theirs, annotator)])


@torch.no_grad()
def averaged(policies: Sequence[Checkpoint], initial: Checkpoint) -> PreTrainedModel:
    """θ_0 + s·(θ̄ − θ_0), θ̄ the policies' mean and s such that it is as far from θ_0 as the last of them."""
    start, last = (one.load_model(torch.float32, CPU) for one in (initial, policies[-1]))
    model = policies[-1].load_model(torch.float32, CPU)
    weights = [dict(policy.load_model(torch.float32, CPU).named_parameters()) for policy in policies]
    for name, weight in model.named_parameters():
        weight.copy_(torch.stack([one[name] for one in weights]).mean(dim=0))
    extrapolate(model, start, _distance(last, start) / _distance(model, start) - 1)
    return model


def _distance(one: PreTrainedModel, other: PreTrainedModel) -> float:
    weights, others = (torch.nn.utils.parameters_to_vector(model.parameters()) for model in (one, other))
    return (weights - others).norm().item()


if __name__ == "__main__":
    main()
