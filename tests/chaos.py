"""Kills whole runs of ``conf/test`` again and again, and compares what they leave with uninterrupted ones.

``make chaos`` runs ``python tests/chaos.py``. A parent imports everything once and forks each attempt, so that a
restart costs a second instead of the imports' fifteen. Attempts die by a real SIGKILL: some moments after a step, a
shard or a checkpoint has begun, or inside a save, before its n-th flush to the disk. Whatever a run commits is taken
down from its log; after each death the harness looks at the disk itself for what is committed, and the next attempt
must not compute any of it again.
"""

import argparse
import hashlib
import json
import logging
import os
import random
import re
import select
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import DatasetError

from selfie.datasets import commit
from selfie.runner import ContinuingRunner
from selfie.status import stage_of

PROJECT = Path(__file__).parents[1]
REPORT = PROJECT / "data/08_reporting/chaos.json"
PAGE = PROJECT / "docs/reliability.md"
BEGIN, END = "<!-- written by make chaos: begin -->\n", "<!-- end -->"
JOURNALS = ("selfie.runner", "selfie.datasets.shards", "selfie.training.checkpointing")
COMPARED = ("responses/*.arrow", "scored_responses/*.arrow", "pairs/*.arrow", "policy_*/model.safetensors")
COMPARED += ("*training_log/*.arrow", "initial_model/model.safetensors", "outputs.json", "labels.json")
STEP = re.compile(r"^\d+/\d+ (\S+): ")
SAVE_SHARE, MOST_MOMENTS, MOST_FLUSHES, LONGEST_DELAY = 0.35, 4, 24, 0.3
PATIENCE = 300  # seconds without a sign of life


@dataclass
class Tally:
    """What happened to all worlds together."""

    by_stage: Counter = field(default_factory=Counter)
    inside_saves: int = 0
    attempts: int = 0
    committed: int = 0
    recomputed: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return sum(self.by_stage.values())


@dataclass
class Attempt:
    """How one process ended, and what it said before."""

    status: int
    lines: list[str]

    @property
    def killed(self) -> bool:
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL

    @property
    def stage(self) -> str:
        """The stage of the step that it was in."""
        steps = [found[1] for line in self.lines if (found := STEP.match(line))]
        return stages()[steps[-1]] if steps else "start"


class Pipe(logging.Handler):
    """Log lines to a file descriptor, one write each, so that a kill loses none that was emitted."""

    def __init__(self, descriptor: int):
        super().__init__()
        self.descriptor = descriptor

    def emit(self, record: logging.LogRecord) -> None:
        os.write(self.descriptor, f"{record.getMessage()}\n".encode())


def stages() -> dict[str, str]:
    """Step → stage."""
    return {node.name: stage_of(node) for node in pipelines["__default__"].nodes}


def start(folder: Path, seed: int, fatal_flush: int | None) -> tuple[int, int]:
    """Forks a run; returns its process id and the descriptor that its log comes from."""
    ours, theirs = os.pipe()
    process = os.fork()
    if process:
        os.close(theirs)
        return process, ours
    status = 1
    try:
        os.close(ours)
        output = os.open(folder / "output.log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ["SELFIE_DATA"] = str(folder)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        for name in JOURNALS:
            logging.getLogger(name).addHandler(Pipe(theirs))
            logging.getLogger(name).setLevel(logging.DEBUG)
        if fatal_flush is not None:
            die_before_flush(fatal_flush)
        parameters = {"seed": seed, "prompts_per_iteration": [32, 48][: int(os.environ["SELFIE_ITERATIONS"])]}
        with KedroSession.create(PROJECT, env="test", runtime_params=parameters) as session:
            session.run(runner=ContinuingRunner())
        status = 0
    except BaseException:
        logging.exception("the attempt failed")
    finally:
        os._exit(status)


def die_before_flush(number: int) -> None:
    """SIGKILLs this very process when a commit comes to its n-th flush."""
    flush, count = commit._flush, 0

    def deadly(path: Path) -> None:
        nonlocal count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        flush(path)

    commit._flush = deadly


def follow(process: int, descriptor: int, choose: Any) -> Attempt:
    """Reads the run's log until it ends; ``choose(line)`` says after which line, and how many seconds, to kill it."""
    lines, rest, due = [], b"", None
    while True:
        wait = PATIENCE if due is None else max(0.0, due - time.monotonic())
        ready, _, _ = select.select([descriptor], [], [], wait)
        if not ready:
            os.kill(process, signal.SIGKILL)
            if due is None:
                raise TimeoutError(f"nothing happened for {PATIENCE} s after {lines[-1:]}")
            due = time.monotonic() + PATIENCE
            continue
        read = os.read(descriptor, 65536)
        if not read:
            break
        *complete, rest = (rest + read).split(b"\n")
        for line in complete:
            lines.append(line.decode())
            delay = choose(lines[-1])
            if delay is not None and due is None:
                due = time.monotonic() + delay
    os.close(descriptor)
    return Attempt(os.waitpid(process, 0)[1], lines)


def committed_work(folder: Path) -> set[str]:
    """Shards and checkpoints that are on the disk and verify, whatever the run believes."""
    found = [*folder.glob("06_models/**/.workspace*/**/shard-*"), *folder.glob("06_models/**/checkpoint-*")]
    return {str(path) for path in found if verifies(path)}


def verifies(path: Path) -> bool:
    try:
        commit.verify(path)
    except DatasetError:
        return False
    return True


def plan(rng: random.Random, tally: Tally, spared: bool) -> tuple[int | None, Any]:
    """When the next attempt dies: before a flush, or some time after its n-th sign of life.

    A stage in which no attempt has died yet is not left alive, even where the attempt is ``spared`` otherwise.
    """
    fatal_flush = rng.randint(1, MOST_FLUSHES) if rng.random() < SAVE_SHARE and not spared else None
    moment, delay, seen = rng.randint(1, MOST_MOMENTS), rng.uniform(0, LONGEST_DELAY), 0

    def choose(line: str) -> float | None:
        nonlocal seen
        seen += 1
        step = STEP.match(line)
        if step and not tally.by_stage[stages()[step[1]]]:
            return delay / 10
        return delay if fatal_flush is None and seen == moment and not spared else None

    return fatal_flush, choose


def torment(folder: Path, seed: int, kills: int, tally: Tally) -> None:
    """One world, killed and restarted until it is done (and left in peace after this many kills in all worlds)."""
    rng = random.Random(seed)
    committed: set[str] = set()
    everything: set[str] = set()
    while True:
        fatal_flush, choose = plan(rng, tally, spared=tally.kills >= kills)
        attempt = follow(*start(folder, seed, fatal_flush), choose)
        tally.attempts += 1
        started = {line.split(" ", 1)[1] for line in attempt.lines if line.startswith(("computing ", "committed "))}
        tally.recomputed.extend(sorted(started & committed))
        everything |= {line.split(" ", 1)[1] for line in attempt.lines if line.startswith("committed ")}
        if not attempt.killed:
            if attempt.status:
                raise RuntimeError(f"an attempt failed by itself; see {folder}/output.log")
            break
        tally.by_stage[attempt.stage] += 1
        tally.inside_saves += fatal_flush is not None
        committed = committed_work(folder)
        everything |= committed
    tally.committed += len(everything)


def uninterrupted(folder: Path, seed: int) -> None:
    """The same world, left in peace."""
    attempt = follow(*start(folder, seed, None), lambda line: None)
    if attempt.status:
        raise RuntimeError(f"the uninterrupted run failed; see {folder}/output.log")


def differences(tormented: Path, peaceful: Path) -> list[str]:
    """Artefacts whose bytes differ, or which only one of the two has."""
    hashes = []
    for folder in (tormented, peaceful):
        files = [file for pattern in COMPARED for file in folder.glob(f"0*/test/**/{pattern}")]
        hashes.append({str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files})
    ours, theirs = hashes
    assert theirs, "nothing to compare"
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


def run(kills: int, first_seed: int, folder: Path, iterations: int, worlds: int) -> dict[str, Any]:
    """Torments this many worlds, or more if it takes more; what ``chaos.json`` holds."""
    os.environ["SELFIE_ITERATIONS"] = str(iterations)
    bootstrap_project(PROJECT)
    with KedroSession.create(PROJECT, env="test") as session:
        session.load_context()  # shapes the pipelines, whose steps name the stages
    tally = Tally()
    seed = first_seed
    while tally.kills < kills or seed < first_seed + worlds:
        tormented, peaceful = (folder / f"{name}_{seed}" for name in ("tormented", "peaceful"))
        for path in (tormented, peaceful):
            path.mkdir(parents=True)
        share = -(-kills * (seed - first_seed + 1) // worlds)
        torment(tormented, seed, min(kills, share), tally)
        uninterrupted(peaceful, seed)
        tally.different.extend(f"seed {seed}: {name}" for name in differences(tormented, peaceful))
        tally.seeds.append(seed)
        print(f"seed {seed}: {tally.kills} kills in all, {dict(tally.by_stage)}", flush=True)
        seed += 1
    return {
        "kills": tally.kills,
        "by_stage": dict(sorted(tally.by_stage.items())),
        "inside_saves": tally.inside_saves,
        "identical": not tally.different,
        "different": tally.different,
        "committed_shards": tally.committed,
        "committed_shards_recomputed": len(tally.recomputed),
        "recomputed": tally.recomputed,
        "attempts": tally.attempts,
        "seeds": tally.seeds,
    }


def page_with(report: dict[str, Any], page: str) -> str:
    """The documentation's page with this report's figures in it."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    rows = [
        ("kills", report["kills"]),
        *((f"– in {stage}", count) for stage, count in report["by_stage"].items()),
        ("– inside a save, of all these", report["inside_saves"]),
        ("starts", report["attempts"]),
        ("worlds (seeds)", ", ".join(map(str, report["seeds"]))),
        ("artefacts identical to the byte", "yes" if report["identical"] else ", ".join(report["different"])),
        ("committed shards and checkpoints", report["committed_shards"]),
        ("of them computed again", report["committed_shards_recomputed"]),
    ]
    table = "".join(f"| {name} | {value} |\n" for name, value in rows)
    return f"{before}{BEGIN}| | |\n|---|---|\n{table}{END}{after}"


def main() -> None:
    """Writes and prints the report; ends with 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--worlds", type=int, default=2)
    parser.add_argument("--print-only", action="store_true", help="leave chaos.json and the documentation as they are")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = run(arguments.kills, arguments.seed, Path(folder), arguments.iterations, arguments.worlds)
    if not arguments.print_only:
        commit.commit_file(REPORT, lambda new: new.write_text(json.dumps(report, indent=1)) and None)
        PAGE.write_text(page_with(report, PAGE.read_text()))
    print(json.dumps(report, indent=1))
    sys.exit(not (report["identical"] and report["committed_shards_recomputed"] == 0))


if __name__ == "__main__":
    main()
