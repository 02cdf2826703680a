"""No stage holds all of its rows: four times as many may take no more memory than a few numbers a row."""

import json
import platform
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import datasets
import psutil
import pyarrow
import pytest
import torch
from click.testing import CliRunner
from datasets import Dataset

from benchmarks.speed import scale
from selfie.config.gold import GoldParameters
from selfie.config.parameters import GenerationParameters, JudgingParameters
from selfie.datasets.rows import RowsDataset
from selfie.models.checkpoint import Checkpoint
from selfie.pipelines.diagnostics.nodes import choose_examples, rejudge_pairs
from selfie.pipelines.evaluation.nodes import audit_pairs
from selfie.pipelines.generation.nodes import generate_responses, split_prompts
from selfie.pipelines.judging.nodes import judge_responses, measure_precision, score_responses
from selfie.pipelines.seeding.nodes import tokenize_pairs
from selfie.training.pairs import add_human_pairs

FEW, MANY = 256, 1024  # rows
SHARD_ROWS = 128
BYTES_A_ROW = 400  # numbers, and what a shard takes (some 20 KB); the rows themselves are several thousand each
POOLS: list[pyarrow.MemoryPool] = []  # a pool must outlive its buffers
TEXT = " ".join(["w00"] * 60)
CHOSEN = {"scoring": "float32"}
GOLD = GoldParameters.model_validate(
    {"annotator": "style_guide", "checks": {"sentence_count": {"least": 1, "most": 3}}}
)
JUDGING = JudgingParameters(
    judge="implicit_reward", length="per_token", support_percentile=1.0, batch_tokens=8192, shard_rows=SHARD_ROWS
)
GENERATION = GenerationParameters(
    engine="transformers",
    samples_per_prompt=2,
    initial_samples=1,
    temperature=1.0,
    top_p=1.0,
    max_new_tokens=2,
    batch_tokens=8192,
    shard_rows=SHARD_ROWS,
)


def prompts(rows: int) -> Dataset:
    """One for two rows of responses."""
    return Dataset.from_list([{"prompt_id": str(n), "messages": _asked(TEXT)} for n in range(rows // 2)])


def responses(rows: int) -> Dataset:
    """Two a prompt, of which the first got likelier; each of its own ids, so that none are identical."""
    return Dataset.from_list(
        [
            {
                **{"iteration": 1, "prompt_id": str(n // 2), "prompt": TEXT, "prompt_ids": [n // 2 % 40, n // 80] * 30},
                **{
                    "sample": n % 2,
                    "source": ("policy", "initial")[n % 2],
                    "response": TEXT,
                    "response_ids": [5 + n % 2] * 20 + [1],
                },
                **{"policy_log_prob": -20.0 - n % 3, "initial_log_prob": -21.0},
            }
            for n in range(rows)
        ]
    )


def pairs(rows: int) -> Dataset:
    return Dataset.from_list(
        [
            {
                **{
                    "pair": n,
                    "iteration": 1,
                    "prompt_id": str(n),
                    "prompt": TEXT,
                    "prompt_ids": [n % 40, n // 40] * 30,
                },
                **{f"{side}_ids": [5 + k] * 20 + [1] for k, side in enumerate(("chosen", "rejected"))},
                **{side: TEXT + side for side in ("chosen", "rejected")},
                **{"margin": n / rows, "probability": 0.6, "weight": 1.0},
            }
            for n in range(rows)
        ]
    )


def preferences(rows: int) -> Dataset:
    row = {"messages": _asked(TEXT), "chosen": TEXT, "rejected": "w01", "prompt_id": "p", "row": 0}
    return Dataset.from_list([{**row, "chosen_finish_reason": "stop", "rejected_finish_reason": "stop"}] * rows)


def log(rows: int) -> Dataset:
    row = {"step": 1, "loss": 0.6, "margin": 0.1, "detector_margin": 0.1, "flagged": False, "trusted": False}
    return Dataset.from_list([{"pair": n, **row} for n in range(rows)])


def _asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def split(model: Checkpoint, folder: Path, asked: Dataset) -> Dataset:
    return split_prompts(asked, [len(asked) // 2], 0, 1)[0]


def generate(model: Checkpoint, folder: Path, asked: Dataset) -> Dataset:
    asked = asked.add_column("iteration", [1] * len(asked))
    return generate_responses(asked, model, model, folder, GENERATION, "auto", 128, 0)


def score(model: Checkpoint, folder: Path, drawn: Dataset) -> Dataset:
    drawn = drawn.remove_columns(["policy_log_prob", "initial_log_prob"])
    return score_responses(drawn, model, model, CHOSEN, folder, JUDGING.batch_tokens, SHARD_ROWS)


def choose(model: Checkpoint, folder: Path, drawn: Dataset) -> Dataset:
    measure_precision(drawn, model, model, JUDGING.batch_tokens, "auto", "auto")
    return drawn


def judge(model: Checkpoint, folder: Path, scored: Dataset) -> Dataset:
    return judge_responses(scored, folder, JUDGING, "auto", 0.1, None)


def tokenize(model: Checkpoint, folder: Path, human: Dataset) -> Dataset:
    return tokenize_pairs(human, model, folder, None, 128, SHARD_ROWS)


def replay(model: Checkpoint, folder: Path, human: Dataset) -> Dataset:
    return add_human_pairs(human, human.remove_columns("weight"), times=1)


def rejudge(model: Checkpoint, folder: Path, labelled: Dataset, scored: Dataset) -> Dataset:
    return rejudge_pairs(labelled.select(range(16)), scored, model, CHOSEN, JUDGING, 0.1, 0)


def diagnose(model: Checkpoint, folder: Path, labelled: Dataset, entries: Dataset) -> Dataset:
    choose_examples(labelled, entries, GOLD)
    audit_pairs(labelled, entries, GOLD)
    return labelled


Work = Callable[..., Dataset]
Make = Callable[[int], Dataset]


@pytest.mark.parametrize(
    ("work", "inputs"),
    [
        (split, [prompts]),
        (generate, [prompts]),
        (choose, [responses]),
        (score, [responses]),
        (judge, [responses]),
        (tokenize, [preferences]),
        (replay, [pairs]),
        (rejudge, [pairs, responses]),
        (diagnose, [pairs, log]),
    ],
)
def test_memory_does_not_grow_with_the_rows(
    tiny_checkpoint: Checkpoint, tmp_path: Path, monkeypatch, work: Work, inputs: list[Make]
):
    """From inputs on the disk to the output on the disk, in Python's memory and Arrow's."""
    monkeypatch.setattr(datasets.config, "DEFAULT_MAX_BATCH_SIZE", SHARD_ROWS)  # rows that are written at once: 1,000
    _, few, many = (  # the first time for what is loaded once
        peak(work, inputs, rows, tiny_checkpoint, tmp_path / str(number))
        for number, rows in enumerate((FEW, FEW, MANY))
    )
    assert (many - few) / (MANY - FEW) < BYTES_A_ROW


def peak(work: Work, inputs: list[Make], rows: int, model: Checkpoint, folder: Path) -> int:
    """Bytes that Python's objects and Arrow's buffers take at most."""
    saved = [RowsDataset(str(folder / make.__name__)) for make in inputs]
    for make, dataset in zip(inputs, saved, strict=True):
        dataset.save(make(rows))
    workspace = folder / "workspace"
    workspace.mkdir()
    before, pool = pyarrow.default_memory_pool(), pyarrow.proxy_memory_pool(pyarrow.default_memory_pool())
    POOLS.append(pool)
    pyarrow.set_memory_pool(pool)
    tracemalloc.start()
    try:
        output = work(model, workspace, *(dataset.load() for dataset in saved))
        RowsDataset(str(folder / "output")).save(output)
        return tracemalloc.get_traced_memory()[1] + pool.max_memory()
    finally:
        assert not list(folder.rglob("cache-*")), "datasets has left a cache among an artefact's files"
        tracemalloc.stop()
        pyarrow.set_memory_pool(before)


PAGES_ASKED_FOR = """
import resource, torch
from selfie.runtime.memory import reuse_memory
def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
pages()
stock = pages()
reuse_memory()
pages()
print(stock, pages())
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or torch.accelerator.is_available(),
    reason="only glibc is told so, where models are computed on the CPU",
)
def test_what_a_batch_frees_serves_the_next_one():
    """20 tensors of 64 MiB one after the other, 16,384 pages each, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", PAGES_ASKED_FOR], capture_output=True, text=True, check=True)
    stock, reused = map(int, done.stdout.split())
    assert stock > 20 * 16_000
    assert reused < 1_000


def test_what_is_compiled_for_a_shape_does_not_pile_up():
    """300 batches, each of a shape of its own; with the libraries' own settings they took 550 MiB."""
    layer, before = torch.nn.Linear(64, 192), psutil.Process().memory_info()
    for rows in range(100, 1000, 3):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = layer(torch.ones(rows, 64))
        output.float().sum().backward()
    now = psutil.Process().memory_info()
    assert (now.rss - now.shared) - (before.rss - before.shared) < 100 * 2**20


def test_the_benchmark_of_growth(tmp_path: Path, monkeypatch):
    """All stages at three sizes, in this process instead of a new one each."""
    monkeypatch.setattr(scale, "in_a_process", lambda measure, *arguments: measure(*arguments))
    for name in ("TQDM_DISABLE", "TRANSFORMERS_VERBOSITY"):
        monkeypatch.setenv(name, "1" if name == "TQDM_DISABLE" else "error")
    options = ["--prompts", "4", "--results", str(tmp_path)]
    outcome = CliRunner().invoke(scale.main, options, catch_exceptions=False)
    assert outcome.exit_code == 0
    (file,) = tmp_path.glob("*-scale.json")
    written = json.loads(file.read_text())
    assert written["prompts"] == [4, 16, 64]
    assert set(written["stages"]) == {"generation", "judging", "training", "diagnostics"}
    for stage, of in written["stages"].items():
        assert stage in outcome.output
        assert len(of["processor_seconds"]) == len(of["processor_milliseconds_a_prompt"]) == 3
        assert min(of["seconds"]) > 0
        assert min(of["peak_mib"]) >= 100  # torch alone
    assert written["constant_seconds_an_iteration"] > 0
