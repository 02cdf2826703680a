"""``python -m benchmarks.speed.scale`` (``make bench-scale``): how each stage's time and memory grow with its rows.

A tiny model, 1, 4 and 16 times as many prompts, every stage in a process of its own: time should be a constant and so
much a prompt, memory should not grow. The constant is measured on a handful of prompts: what an iteration costs before
its first row, in seconds (models are loaded, the trainer is set up, the policy is saved) and in memory (libraries,
weights, the optimiser's moments).

Memory is the anonymous one: pages of memory-mapped files count as the process's too (in ``ru_maxrss``), but the kernel
drops them when it needs the room.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import click
import numpy as np
import psutil
from datasets import Dataset
from rich.console import Console
from rich.table import Table

from benchmarks.speed.ours import BETA, parameters
from benchmarks.speed.programme import in_a_process
from benchmarks.speed.workload import Setting
from selfie.config.gold import SYNTHETIC, GoldParameters
from selfie.config.parameters import GenerationParameters, JudgingParameters
from selfie.datasets.rows import RowsDataset
from selfie.models.checkpoint import Checkpoint
from selfie.pipelines.diagnostics.nodes import choose_examples, plot_labels, rejudge_pairs
from selfie.pipelines.generation.nodes import generate_responses
from selfie.pipelines.judging.nodes import judge_responses, measure_precision, score_responses
from selfie.pipelines.training.nodes import train_policy
from selfie.runtime.machine import describe_machine
from selfie.storage.commit import commit_text
from selfie.synthetic.language import all_prompts, write_response
from selfie.synthetic.pretraining import pretrain

TIMES = (1, 4, 16)
FEW = 8  # prompts: what they take is the constant
BATCH_TOKENS = 16384
SAMPLES = 2
WATCH_SECONDS = 0.01
MIB = 2**20
GOLD = GoldParameters(annotator=SYNTHETIC)
JUDGING = JudgingParameters(judge="implicit_reward", batch_tokens=BATCH_TOKENS)
GENERATION = GenerationParameters(
    engine="transformers",
    samples_per_prompt=SAMPLES,
    temperature=1.0,
    top_p=1.0,
    max_new_tokens=24,
    batch_tokens=BATCH_TOKENS,
)


@dataclass
class Run:
    """One stage in one process: seconds of the imports and of the stage, bytes before it and at its peak.

    The processor's seconds are those of this process, which others on the machine hardly change.
    """

    imports: float
    before: int
    seconds: float = 0.0
    processor_seconds: float = 0.0
    peak: int = 0


@contextmanager
def watched() -> Iterator[Run]:
    """Times the block and looks at the process's anonymous memory a hundred times a second."""
    run, ended = Run(time.time() - psutil.Process().create_time(), _anonymous_memory()), Event()

    def watch() -> None:
        while not ended.wait(WATCH_SECONDS):
            run.peak = max(run.peak, _anonymous_memory())

    watcher, started, processor_started = Thread(target=watch), time.perf_counter(), time.process_time()
    watcher.start()
    try:
        yield run
    finally:
        run.seconds, run.processor_seconds = time.perf_counter() - started, time.process_time() - processor_started
        ended.set()
        watcher.join()


def _anonymous_memory() -> int:
    """Bytes; what psutil calls shared are the pages of files and of shared memory."""
    memory = psutil.Process().memory_info()
    return memory.rss - memory.shared


def _rows(folder: str, name: str, prompts: int) -> RowsDataset:
    return RowsDataset(f"{folder}/{prompts}/{name}")


def prepare(folder: str, prompts: list[int]) -> None:
    """The tiny model and the prompts."""
    rng = np.random.default_rng(0)
    corpus = [(prompt, write_response(prompt, rng)) for prompt in all_prompts()[:640]]
    pretrain(corpus, 0, Path(folder) / "model")
    texts = all_prompts()
    rows = [
        {"prompt_id": str(i), "messages": [{"role": "user", "content": texts[i % len(texts)]}], "iteration": 1}
        for i in range(max(prompts))
    ]
    for count in prompts:
        _rows(folder, "prompts", count).save(Dataset.from_list(rows[:count]))


def generation(folder: str, prompts: int) -> Run:
    """The responses, drawn and saved."""
    with watched() as run, tempfile.TemporaryDirectory(dir=folder) as workspace:
        asked = _rows(folder, "prompts", prompts).load()
        model = Checkpoint(f"{folder}/model")
        responses = generate_responses(asked, model, model, Path(workspace), GENERATION, "auto", 128, seed=0)
        _rows(folder, "responses", prompts).save(responses)
    return run


def judging(folder: str, prompts: int) -> Run:
    """Both models' log-probs, and the pairs."""
    with watched() as run, tempfile.TemporaryDirectory(dir=folder) as workspace:
        model = Checkpoint(f"{folder}/model")
        responses = _rows(folder, "responses", prompts).load()
        precision = measure_precision(responses, model, model, BATCH_TOKENS, "auto", "auto")
        scored = score_responses(responses, model, model, precision, Path(workspace), BATCH_TOKENS, JUDGING.shard_rows)
        _rows(folder, "scored", prompts).save(scored)
        scored = _rows(folder, "scored", prompts).load()
        pairs = judge_responses(scored, Path(workspace) / "judge", JUDGING, "auto", BETA, None)
        _rows(folder, "pairs", prompts).save(pairs)
    return run


def training(folder: str, prompts: int) -> Run:
    """One epoch with de-coupled detection, and its log."""
    with watched() as run, tempfile.TemporaryDirectory(dir=folder) as workspace:
        pairs, setting = _rows(folder, "pairs", prompts).load(), Setting("", "", 0, 0, BATCH_TOKENS, "")
        model = Checkpoint(f"{folder}/model")
        _, log = train_policy(pairs, model, Path(workspace), parameters(setting), "auto", BETA, 0)
        _rows(folder, "training_log", prompts).save(log)
    return run


def diagnostics(folder: str, prompts: int) -> Run:
    """What reads all responses, all pairs and the whole log once more."""
    with watched() as run:
        names = ("pairs", "scored", "training_log")
        pairs, scored, log = (_rows(folder, name, prompts).load() for name in names)
        rejudge_pairs(pairs, scored, Checkpoint(f"{folder}/model"), {"scoring": "float32"}, JUDGING, BETA, 0)
        choose_examples(pairs, log, GOLD)
        plot_labels(pairs, log, GOLD)
    return run


STAGES: tuple[Callable[[str, int], Run], ...] = (generation, judging, training, diagnostics)


@click.command()
@click.option("--prompts", default=256, show_default=True, help="The smallest number; then 4 and 16 times as many.")
@click.option("--results", "folder", default="benchmarks/results", show_default=True)
def main(prompts: int, folder: str) -> None:
    """Measures, prints a table, and writes RESULTS/MACHINE-scale.json."""
    os.environ.update(TQDM_DISABLE="1", HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")
    counts = [prompts * times for times in TIMES]
    with tempfile.TemporaryDirectory() as scratch:
        in_a_process(prepare, scratch, [FEW, *counts])
        runs = {s.__name__: [in_a_process(s, scratch, count) for count in (FEW, *counts)] for s in STAGES}
    written = document(counts, runs)
    show(written)
    commit_text(Path(folder) / f"{describe_machine()['name']}-scale.json", json.dumps(written, indent=1))


def document(counts: list[int], runs: dict[str, list[Run]]) -> dict:
    """What is written; the first run of each stage is the one on a handful of prompts."""
    stages = {}
    for stage, (few, *others) in runs.items():
        more = [run.processor_seconds - few.processor_seconds for run in others]
        each = [1000 * seconds / count for seconds, count in zip(more, counts, strict=True)]
        stages[stage] = {
            "constant_seconds": round(few.seconds, 2),
            "constant_processor_seconds": round(few.processor_seconds, 2),
            "seconds": [round(run.seconds, 2) for run in others],
            "processor_seconds": [round(run.processor_seconds, 2) for run in others],
            "processor_milliseconds_a_prompt": [round(value, 2) for value in each],
            "constant_mib": round(few.peak / MIB),
            "peak_mib": [round(run.peak / MIB) for run in others],
        }
    every = [run for of_stage in runs.values() for run in of_stage]
    return {
        "machine": describe_machine(),
        "samples_a_prompt": SAMPLES,
        "prompts": counts,
        "stages": stages,
        "constant_seconds_an_iteration": round(sum(few.seconds for few, *_ in runs.values()), 2),
        "constant_processor_seconds_an_iteration": round(sum(few.processor_seconds for few, *_ in runs.values()), 2),
        "import_seconds": round(float(np.median([run.imports for run in every])), 2),
        "import_mib": round(float(np.median([run.before for run in every])) / MIB),
    }


def show(written: dict) -> None:
    """The table, and the constants below it."""
    table = Table("stage", "prompts", "s", "processor s", "ms a prompt", "peak, MiB")
    for stage, of in written["stages"].items():
        constant = [f"{of['constant_seconds']:.1f}", f"{of['constant_processor_seconds']:.1f}", "constant"]
        table.add_row(stage, f"{FEW}", *constant, f"{of['constant_mib']}")
        columns = ("seconds", "processor_seconds", "processor_milliseconds_a_prompt", "peak_mib")
        for prompts, *values, mib in zip(written["prompts"], *(of[name] for name in columns), strict=True):
            table.add_row("", f"{prompts:,}", *(f"{value:.1f}" for value in values), f"{mib}")
    console = Console()
    console.print(table)
    console.print(
        f"constant: {written['constant_seconds_an_iteration']} s an iteration "
        f"({written['constant_processor_seconds_an_iteration']} of the processor), "
        f"imports {written['import_seconds']} s a run and {written['import_mib']} MiB"
    )


if __name__ == "__main__":
    main()
