"""``python -m selfie.bench.scale`` (``make bench-scale``): how each stage's time and memory grow with its rows.

A tiny model, 1, 4 and 16 times as many prompts, every stage in a process of its own: seconds should be a constant and
so much a row, memory should not grow. The constant is what an iteration costs before its first row.
"""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from datasets import Dataset, load_from_disk
from rich.console import Console
from rich.table import Table

from selfie.bench.ours import BETA, parameters
from selfie.bench.programme import in_a_process, machine
from selfie.bench.workload import Measurement, Setting, stopwatch
from selfie.checkpoints import Checkpoint
from selfie.datasets.commit import commit_text
from selfie.parameters import GenerationParameters, JudgingParameters
from selfie.pipelines.generation.nodes import generate_responses
from selfie.pipelines.judging.nodes import judge_responses, score_responses
from selfie.training.train import train
from selfie.world.language import all_prompts, write_response
from selfie.world.pretraining import pretrain

TIMES = (1, 4, 16)
STAGES = ("generation", "judging", "training")
BATCH_TOKENS = 16384


def prepare(folder: str) -> str:
    """The tiny model."""
    rng = np.random.default_rng(0)
    corpus = [(prompt, write_response(prompt, rng)) for prompt in all_prompts()[:640]]
    return pretrain(corpus, 0, Path(folder) / "model").source


def generation(folder: str, prompts: int) -> Measurement:
    """Two responses a prompt, as the node draws them, and their saving."""
    rows = [
        {"prompt_id": str(i), "messages": [{"role": "user", "content": all_prompts()[i % len(all_prompts())]}]}
        for i in range(prompts)
    ]
    dataset = Dataset.from_list(rows).add_column("iteration", [1] * prompts)
    drawn = GenerationParameters(
        engine="transformers",
        samples_per_prompt=2,
        temperature=1.0,
        top_p=1.0,
        max_new_tokens=24,
        batch_tokens=BATCH_TOKENS,
    )
    with stopwatch() as measured:
        shards = Path(folder) / f"sampling-{prompts}"
        responses = generate_responses(dataset, Checkpoint(f"{folder}/model"), shards, drawn, 128, seed=0)
        responses.save_to_disk(f"{folder}/responses-{prompts}")
    return measured(prompts)


def judging(folder: str, prompts: int) -> Measurement:
    """Both models' log-probs, and the pairs."""
    model, judged = Checkpoint(f"{folder}/model"), JudgingParameters(judge="logit", batch_tokens=BATCH_TOKENS)
    with stopwatch() as measured:
        responses = load_from_disk(f"{folder}/responses-{prompts}")
        shards = Path(folder) / f"scoring-{prompts}"
        scored = score_responses(responses, model, model, shards, judged)
        pairs = judge_responses(scored, shards / "judge", judged, BETA, None)
        pairs.save_to_disk(f"{folder}/pairs-{prompts}")
    return measured(prompts)


def training(folder: str, prompts: int) -> Measurement:
    """One epoch with de-coupled detection."""
    with stopwatch() as measured, tempfile.TemporaryDirectory() as workspace:
        pairs = load_from_disk(f"{folder}/pairs-{prompts}")
        setting = Setting("", "", 0, 0, BATCH_TOKENS, "")
        train(Checkpoint(f"{folder}/model"), pairs, parameters(setting), BETA, 1, 0, Path(workspace))
    return measured(prompts)


MEASURE: dict[str, Callable[[str, int], Measurement]] = {
    "generation": generation,
    "judging": judging,
    "training": training,
}


@click.command()
@click.option("--prompts", default=256, show_default=True, help="The smallest number; then 4 and 16 times as many.")
@click.option("--results", "folder", default="benchmarks/results", show_default=True)
def main(prompts: int, folder: str) -> None:
    """Measures, prints a table, and writes RESULTS/MACHINE-scale.json."""
    os.environ.update(TQDM_DISABLE="1", HF_HUB_OFFLINE="1")
    table = Table("stage", *(f"{prompts * times} prompts: s | MiB" for times in TIMES), "constant, s", "ms a prompt")
    written: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as scratch:
        in_a_process(prepare, scratch)
        for stage in STAGES:
            runs = [in_a_process(MEASURE[stage], scratch, prompts * times) for times in TIMES]
            slope, constant = np.polyfit([run.tokens for run in runs], [run.seconds for run in runs], 1)
            written[stage] = {
                "prompts": [run.tokens for run in runs],
                "seconds": [round(run.seconds, 2) for run in runs],
                "peak_mib": [round(run.peak_memory / 2**20) for run in runs],
                "constant_seconds": round(float(constant), 2),
                "milliseconds_a_prompt": round(1000 * float(slope), 2),
            }
            cells = [f"{run.seconds:.1f} | {run.peak_memory / 2**20:.0f}" for run in runs]
            table.add_row(stage, *cells, f"{constant:.1f}", f"{1000 * slope:.1f}")
    Console().print(table)
    commit_text(Path(folder) / f"{machine()['name']}-scale.json", json.dumps(written, indent=1))


if __name__ == "__main__":
    main()
