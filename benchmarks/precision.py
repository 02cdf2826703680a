"""``python -m benchmarks.precision``: what each arithmetic costs in labels and in time, on a run's own responses.

Reads the responses that an iteration has judged (``data/03_primary/EXPERIMENT/iteration_K/responses``), scores those of
the first prompts under the policy that wrote them and under the initial model, once in each arithmetic, and compares
labels with those of float32. Writes ``docs/results/precision.json``; a rerun measures what is missing.
"""

import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from itertools import combinations
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from transformers import PreTrainedModel

from selfie.config.methods import MethodConfigLoader
from selfie.config.parameters import Parameters
from selfie.judges.gold import Scorer, gold_scorer
from selfie.models.checkpoint import Checkpoint
from selfie.scoring import log_probs
from selfie.settings import CONFIG_LOADER_ARGS
from selfie.storage.commit import commit_text

BATCH_TOKENS = 4096
Load = Callable[[Checkpoint], PreTrainedModel]


def _rounded(checkpoint: Checkpoint) -> PreTrainedModel:
    return checkpoint.load_model(torch.bfloat16).float()


ARITHMETICS: dict[str, tuple[Load, bool]] = {
    "float32": (lambda checkpoint: checkpoint.load_model(torch.float32), False),
    "bf16 weights, float32 arithmetic": (_rounded, False),
    "float32 weights under bf16 autocast": (lambda checkpoint: checkpoint.load_model(torch.float32), True),
    "bf16": (lambda checkpoint: checkpoint.load_model(torch.bfloat16), False),
}
"""How a model is loaded, and whether it runs under bf16 autocast."""


def scored(checkpoint: Checkpoint, rows: Dataset, load: Load, autocast: bool) -> list[float]:
    """Summed log-probs of the responses in this arithmetic."""
    model = load(checkpoint)
    device = model.device.type
    with torch.autocast(device, torch.bfloat16) if autocast else nullcontext():
        return log_probs._score_rows(model, rows["prompt_ids"][:], rows["response_ids"][:], BATCH_TOKENS, "models")


def compare(rows: Dataset, exact: np.ndarray, rewards: np.ndarray, scorer: Scorer) -> dict[str, Any]:
    """Labels of these rewards beside float32's, over all pairs of responses to one prompt, and best against worst."""
    prompts = rows["prompt_id"][:]
    groups = [np.flatnonzero(np.array(prompts) == prompt) for prompt in dict.fromkeys(prompts)]
    pairs = np.array([pair for group in groups for pair in combinations(group, 2)])
    extremes = np.array([[group[exact[group].argmax()], group[exact[group].argmin()]] for group in groups])
    truth = np.array([scorer(row["prompt"], row["response"]) for row in rows])
    ours = np.array([[group[rewards[group].argmax()], group[rewards[group].argmin()]] for group in groups])
    apart, clear = (_differences(truth, part) != 0 for part in (pairs, ours))
    true, measured = _differences(exact, pairs), _differences(rewards, pairs)
    return {
        "pairs": len(pairs),
        "labels_as_float32": float(np.mean(np.sign(measured) == np.sign(true))),
        "best_against_worst_as_float32": float(np.mean(_differences(rewards, extremes) > 0)),
        "noise_nats": float((measured - true).std()),
        "spread_nats": float(true.std()),
        "label_accuracy": float(np.mean(np.sign(measured[apart]) == np.sign(_differences(truth, pairs)[apart]))),
        "best_against_worst_accuracy": float(np.mean(_differences(truth, ours)[clear] > 0)),
    }


def _differences(values: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    return values[pairs[:, 0]] - values[pairs[:, 1]]


@click.command()
@click.option("--data", default="data", show_default=True, help="Where the run wrote: its SELFIE_DATA.")
@click.option("--experiment", default="demo", show_default=True)
@click.option("--iteration", default=1, show_default=True)
@click.option("--model", required=True, help="The initial model's folder.")
@click.option("--env", default="base", show_default=True, help="Whose gold annotator knows the right labels.")
@click.option("--prompts", default=25, show_default=True, help="How many of the iteration's, all their responses.")
@click.option("--results", default="docs/results/precision.json", show_default=True)
def main(data: str, experiment: str, iteration: int, model: str, env: str, prompts: int, results: str) -> None:
    """Measures every arithmetic on the responses of one iteration."""
    gold = Parameters.model_validate(MethodConfigLoader("conf", env=env, **CONFIG_LOADER_ARGS)["parameters"]).gold
    if gold is None:
        raise click.UsageError(f"{env} has no gold annotator")
    scorer = gold_scorer(gold)
    folder = Path(data, "03_primary", experiment, f"iteration_{iteration}", "responses")
    responses = concatenate_datasets([Dataset.from_file(str(file)) for file in sorted(folder.glob("*.arrow"))])
    chosen = set(list(dict.fromkeys(responses["prompt_id"]))[:prompts])
    rows = responses.select([number for number, prompt in enumerate(responses["prompt_id"]) if prompt in chosen])
    models = (Checkpoint(str(Path(data, "06_models", experiment, f"policy_{iteration - 1}"))), Checkpoint(model))
    file = Path(results)
    written = json.loads(file.read_text()) if file.exists() else {"log_probs": {}, "seconds": {}}
    for name, (load, autocast) in ARITHMETICS.items():
        if name not in written["log_probs"]:
            started = time.perf_counter()
            written["log_probs"][name] = [scored(checkpoint, rows, load, autocast) for checkpoint in models]
            written["seconds"][name] = time.perf_counter() - started
        rewards = {done: np.subtract(*map(np.array, both)) for done, both in written["log_probs"].items()}
        written["arithmetics"] = {
            done: compare(rows, rewards["float32"], values, scorer) for done, values in rewards.items()
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        commit_text(file, json.dumps({**written, "responses": len(rows)}, indent=1))
        click.echo(f"{name}: {written['arithmetics'][name]}")


if __name__ == "__main__":
    main()
