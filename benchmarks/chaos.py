"""Kills whole runs of ``conf/synthetic`` again and again, and compares what they leave with uninterrupted ones.

``make chaos`` runs it. A parent imports everything once and forks each attempt, so that a restart costs a second
instead of the imports' fifteen. Attempts die by a real SIGKILL: some time after they have begun, some moments after a
step, a shard or a checkpoint has, or inside a save, before its n-th flush to the disk, all spread over the length of
an uninterrupted run. After each death the next attempt must not compute anything again that is committed on the disk.
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

from selfie.app.status import stage_of
from selfie.storage import commit

PROJECT = Path(__file__).parents[1]
REPORT = PROJECT / "data/08_reporting/chaos.json"
PAGE = PROJECT / "docs/reliability.md"
BEGIN, END = "<!-- written by make chaos: begin -->\n", "<!-- end -->"
JOURNALS = ("selfie.app.runner", "selfie.storage.shards", "selfie.training.checkpointing")
# The synthetic task's shards and checkpoints are so large that hardly any would be there when a kill comes.
SMALL = {
    "generation": {"shard_rows": 128},
    "judging": {"shard_rows": 128},
    "seeding": {"checkpoint_steps": 4},
    "training": {"checkpoint_steps": 4},
}
PARAMETERS: dict[str, dict[str, Any]] = {"synthetic": SMALL, "test": {}}
TIMED = ("timings.json", "report.md", "report.html")  # files that tell how long it took, and where
NOT_COMPARED = ("seconds", "wall_seconds", "peak_rss_gib", "model")  # the same of the summary
STEP = re.compile(r"^\d+/\d+ (\S+): ")
DYING = "dies inside the save of "
SAVE_SHARE, CLOCK_SHARE, MOST_FLUSHES, LONGEST_DELAY = 0.4, 0.3, 6, 0.3
PATIENCE = 300  # seconds without a sign of life


@dataclass
class Tally:
    """What happened to all runs together."""

    by_stage: Counter = field(default_factory=Counter)
    places: set[str] = field(default_factory=set)
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
class Plan:
    """What is run."""

    env: str
    seed: int
    iterations: int | None
    """The environment's own number where None."""

    @property
    def parameters(self) -> dict[str, Any]:
        """What ``--params`` would say."""
        chosen = {} if self.iterations is None else {"iterations": self.iterations}
        return {"seed": self.seed, **PARAMETERS[self.env], **chosen}


@dataclass
class Fate:
    """How an attempt is to die: so many seconds after it gave so many signs of life."""

    moment: int
    delay: float
    later: float
    """The delay in preparation, whose steps are long."""
    flushes: int
    """Inside a save, before this flush from then on; 0: at once."""


@dataclass
class Attempt:
    """How one process ended, and what it said before."""

    status: int
    lines: list[str]
    seconds: float

    @property
    def killed(self) -> bool:
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL

    @property
    def step(self) -> str:
        """The step that it was in."""
        steps = [found[1] for line in self.lines if (found := STEP.match(line))]
        return steps[-1] if steps else "start"

    @property
    def stage(self) -> str:
        """The stage of that step."""
        return stages().get(self.step, "start")

    @property
    def in_a_save(self) -> bool:
        """Whether it died there."""
        return self.killed and self.lines[-1].startswith(DYING)


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


def place_of(step: str) -> str:
    """Its stage; in preparation, whose steps are long and have no shards, the step itself."""
    stage = stages().get(step, step)
    return step if stage == "preparation" else stage


def start(folder: Path, plan: Plan, flushes: int) -> tuple[int, int]:
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
        prepare_to_die(flushes, theirs)
        session: Any = KedroSession.create(PROJECT, env=plan.env, runtime_params=plan.parameters)
        with session:
            session.run()
        status = 0
    except BaseException:
        logging.exception("the attempt failed")
    finally:
        os._exit(status)


def prepare_to_die(flushes: int, descriptor: int) -> None:
    """SIGUSR1 will mean: SIGKILL yourself when a commit comes to its n-th flush from now."""
    flush, left = commit.flush, 0

    def arm(*_: object) -> None:
        nonlocal left
        left = flushes

    def deadly(path: Path) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.write(descriptor, f"{DYING}{path}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)
        flush(path)

    commit.flush = deadly
    signal.signal(signal.SIGUSR1, arm)


def follow(process: int, descriptor: int, choose: Any) -> Attempt:
    """Reads the run's log until it ends; ``choose(line)`` says after how many seconds to send it which signal."""
    began = time.monotonic()
    lines: list[str] = []
    rest, due = b"", None
    chosen: Any = None  # seconds to wait, signal
    while True:
        wait = PATIENCE if due is None else max(0.0, due - time.monotonic())
        ready, _, _ = select.select([descriptor], [], [], wait)
        if not ready and due is None:
            os.kill(process, signal.SIGKILL)
            raise TimeoutError(f"nothing happened for {PATIENCE} s after {lines[-1:]}")
        if not ready:
            os.kill(process, chosen[1])
            due = None
            continue
        read = os.read(descriptor, 65536)
        if not read:
            break
        *complete, rest = (rest + read).split(b"\n")
        for line in complete:
            lines.append(line.decode())
            if chosen is None:
                chosen = choose(lines[-1])
                due = time.monotonic() + chosen[0] if chosen else None
    os.close(descriptor)
    return Attempt(os.waitpid(process, 0)[1], lines, time.monotonic() - began)


def committed_work(folder: Path) -> set[str]:
    """Shards and checkpoints that are on the disk and verify, whatever the run believes."""
    return {str(path) for path in folder.glob("06_models/**/.workspace*/**/*") if verifies(path)}


def verifies(path: Path) -> bool:
    try:
        commit.verify(path)
    except DatasetError:
        return False
    return True


def draw_fate(rng: random.Random, peaceful: Attempt, kills: int) -> Fate:
    """Such that so many deaths are spread over what the uninterrupted run did, and come before its end."""
    flushes = rng.randint(1, MOST_FLUSHES) if rng.random() < SAVE_SHARE else 0
    later = rng.uniform(0, peaceful.seconds / 10)
    if rng.random() < CLOCK_SHARE:
        return Fate(1, rng.uniform(0, 1.5 * peaceful.seconds / kills), later, flushes)
    moment = rng.randint(1, max(1, int(1.5 * len(peaceful.lines) / kills)))
    return Fate(moment, rng.uniform(0, LONGEST_DELAY), later, flushes)


def chooser(fate: Fate, spared: bool, tally: Tally) -> Any:
    """What :func:`follow` asks: where no attempt has died yet, none stays alive, even where ``spared``."""
    seen = 0
    manner = signal.SIGUSR1 if fate.flushes else signal.SIGKILL

    def choose(line: str) -> tuple[float, signal.Signals] | None:
        nonlocal seen
        seen += 1
        step = STEP.match(line)
        if step and place_of(step[1]) not in tally.places:
            return fate.later if stages()[step[1]] == "preparation" else LONGEST_DELAY / 10, manner
        return (fate.delay, manner) if seen == fate.moment and not spared else None

    return choose


def torment(folder: Path, plan: Plan, peaceful: Attempt, kills: int, tally: Tally) -> None:
    """One run, killed so often, and restarted until it is done."""
    rng = random.Random(plan.seed)
    last = tally.kills + kills
    committed: set[str] = set()
    everything: set[str] = set()
    while True:
        fate = draw_fate(rng, peaceful, kills)
        attempt = follow(*start(folder, plan, fate.flushes), chooser(fate, tally.kills >= last, tally))
        tally.attempts += 1
        started = {line.split(" ", 1)[1] for line in attempt.lines if line.startswith(("computing ", "committed "))}
        tally.recomputed.extend(sorted(started & committed))
        everything |= {line.split(" ", 1)[1] for line in attempt.lines if line.startswith("committed ")}
        if not attempt.killed:
            if attempt.status:
                raise RuntimeError(f"an attempt failed by itself; see {folder}/output.log")
            break
        tally.by_stage[attempt.stage] += 1
        tally.places.add(place_of(attempt.step))
        tally.inside_saves += attempt.in_a_save
        committed = committed_work(folder)
        everything |= committed
    tally.committed += len(everything)


def uninterrupted(folder: Path, plan: Plan) -> Attempt:
    """The same run, left in peace."""
    attempt = follow(*start(folder, plan, 0), lambda line: None)
    if attempt.status:
        raise RuntimeError(f"the uninterrupted run failed; see {folder}/output.log")
    return attempt


def differences(tormented: Path, peaceful: Path) -> list[str]:
    """Artefacts whose bytes differ, or which only one of the two has."""
    ours, theirs = contents(tormented), contents(peaceful)
    assert theirs, "nothing to compare"
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of all that a run has left: data, models, answers, figures; of the summary what is no time."""
    hashes = {}
    for file in folder.glob("0*/**/*"):
        name = file.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if not file.is_file() or hidden or file.name in TIMED:
            continue
        content = file.read_bytes()
        if file.name == "summary.json":
            figures = json.loads(content, object_pairs_hook=lambda row: [x for x in row if x[0] not in NOT_COMPARED])
            content = json.dumps(figures).encode()
        hashes[str(name)] = hashlib.sha256(content).hexdigest()
    return hashes


def run(kills: int, env: str, first_seed: int, folder: Path, iterations: int | None, runs: int) -> dict[str, Any]:
    """Torments this many runs, or more if it takes more; what ``chaos.json`` holds."""
    bootstrap_project(PROJECT)
    parameters = Plan(env, first_seed, iterations).parameters
    session: Any = KedroSession.create(PROJECT, env=env, runtime_params=parameters)
    with session:
        session.load_context()  # shapes the pipelines, whose steps name the stages
    tally = Tally()
    seed = first_seed
    while tally.kills < kills or seed < first_seed + runs:
        plan = Plan(env, seed, iterations)
        tormented, peaceful = (folder / f"{name}_{seed}" for name in ("tormented", "peaceful"))
        for path in (tormented, peaceful):
            path.mkdir(parents=True)
        example = uninterrupted(peaceful, plan)
        left = max(1, first_seed + runs - seed)
        torment(tormented, plan, example, max(1, -(-(kills - tally.kills) // left)), tally)
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
        "environment": env,
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
        (f"runs of `conf/{report['environment']}` (seeds)", ", ".join(map(str, report["seeds"]))),
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
    parser.add_argument("--env", choices=PARAMETERS, default="synthetic")
    parser.add_argument("--iterations", type=int, help="fewer than the environment has")
    parser.add_argument("--runs", type=int, default=2, help="at least so many, each with the next seed")
    parser.add_argument("--print-only", action="store_true", help="leave chaos.json and the documentation as they are")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = run(arguments.kills, arguments.env, arguments.seed, Path(folder), arguments.iterations, arguments.runs)
    if not arguments.print_only:
        commit.commit_text(REPORT, json.dumps(report, indent=1))
        PAGE.write_text(page_with(report, PAGE.read_text()))
    print(json.dumps(report, indent=1))
    sys.exit(not (report["identical"] and report["committed_shards_recomputed"] == 0))


if __name__ == "__main__":
    main()
