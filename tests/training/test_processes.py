"""One training by one, two and four processes: the same pairs flagged, the same losses, the same policy."""

import json
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.multiprocessing
from datasets import load_from_disk
from test_checkpointing import SignalAt, add_to_trainings
from test_trainer import PLAIN, by_step, config, make_pairs, other_model

from selfie.errors import ConfigurationError, DivergenceError
from selfie.models.checkpoint import Checkpoint
from selfie.runtime.signals import exit_on_sigterm
from selfie.storage.commit import verify
from selfie.training.train import train
from selfie.training.trainer import NoiseAwareTrainer

PAIRS, EPOCHS, BATCH = 91, 2, 8  # 91 pairs: the last step of an epoch has three
STEPS = EPOCHS * 12
WINDOW, PERCENTILE = 36, 20.0
TOKENS = {"batch_tokens": 64}  # of two to four pairs: processes have different numbers of micro-batches in a step


def launch(function: Callable, processes: int, *arguments: Any, within: float = 240) -> None:
    """Calls ``function(rank, processes, *arguments)`` in as many processes and waits, ``within`` seconds at most.

    They are forked from a server that has done the slow imports, and has none of pytest's threads.
    """
    multiprocessing.set_forkserver_preload(["selfie.training.trainer"])
    running = torch.multiprocessing.start_processes(
        function, (processes, *arguments), processes, join=False, daemon=True, start_method="forkserver"
    )
    end = time.monotonic() + within
    while not running.join(timeout=5):
        if time.monotonic() > end:
            for process in running.processes:
                process.kill()
            pytest.fail(f"{processes} processes did not come to an end")


@contextmanager
def process_group(rank: int, processes: int, store: Path) -> Iterator[None]:
    """What torchrun would set up, with gloo and a file as the meeting point; nothing for a single process."""
    torch.set_num_threads(1)
    if processes == 1:
        yield
        return
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes}
    os.environ.update({name: str(value) for name, value in ranks.items()})
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT="1")  # accelerate asks for them
    torch.distributed.init_process_group("gloo", f"file://{store}", timedelta(seconds=120), processes, rank)
    yield
    torch.distributed.barrier()
    os._exit(0)  # gloo's destructor can wait for ever where Python frees it last


def work(rank: int, processes: int, folder: Path, checkpoint: Checkpoint) -> None:
    """One process of a training by the real trainer; it leaves its log and its weights."""
    with process_group(rank, processes, folder / f"store_{processes}"):
        trainer = make_trainer(rank, processes, folder, checkpoint)
        assert trainer.accelerator.num_processes == processes
        trainer.train()
        (folder / f"log_{processes}_{rank}.json").write_text(json.dumps(trainer.pair_log))
        model = trainer.accelerator.unwrap_model(trainer.model)
        safetensors.torch.save_model(model, str(folder / f"weights_{processes}_{rank}.safetensors"))


def make_trainer(rank: int, processes: int, folder: Path, checkpoint: Checkpoint) -> NoiseAwareTrainer:
    """Eight pairs a step, however many processes: SR and DND with a loaded reference, in fp32."""
    model = checkpoint.load_model(torch.float32)
    args = config(
        folder / f"{processes}_{rank}",
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=BATCH // processes,
        ddp_backend="gloo" if processes > 1 else None,
    )
    return NoiseAwareTrainer(
        model,
        other_model(model),
        load_from_disk(str(folder / "pairs")),
        args,
        PLAIN.model_copy(
            update={"label_smoothing": 0.4, "noise_percentile": PERCENTILE, "detector_window": WINDOW, **TOKENS}
        ),
        extrapolation=0.5,
        processing_class=checkpoint.load_tokenizer(),
    )


@pytest.fixture(scope="module")
def folder(tiny_checkpoint: Checkpoint, tmp_path_factory) -> Path:
    """The logs and weights that all processes of the three trainings left."""
    folder = tmp_path_factory.mktemp("processes")
    make_pairs(PAIRS).save_to_disk(str(folder / "pairs"))
    for processes in (1, 2, 4):
        launch(work, processes, folder, tiny_checkpoint)
    return folder


def log_of(folder: Path, processes: int, rank: int = 0) -> list[dict[str, Any]]:
    return json.loads((folder / f"log_{processes}_{rank}.json").read_text())


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_every_pair_counts_once_an_epoch(folder: Path, processes: int):
    """Two and four processes fill up the epoch's last round with pairs that were there before: those don't count."""
    log = log_of(folder, processes)
    assert [len(entries) for entries in by_step(log).values()] == [*[8] * 11, 3] * EPOCHS
    for epoch in (log[:PAIRS], log[PAIRS:]):
        assert sorted(entry["pair"] for entry in epoch) == list(range(PAIRS))


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_share_below_the_threshold_is_the_percentile(folder: Path, processes: int):
    """Replayed with NumPy: a pair is flagged where m̃ < τ of the 36 pairs before its step.

    Of those 36, K = 20% = 7.2 lie below τ within one pair, in every step from when the window is full: 24 steps, of
    which 0–2 aren't observed (2.4 would be the border) and 3–7 fill the window.
    """
    window: deque[float] = deque(maxlen=WINDOW)
    full, flagged = 0, 0
    for step, entries in by_step(log_of(folder, processes)).items():
        threshold = np.percentile(window, PERCENTILE, method="weibull") if step >= 5 else -np.inf
        assert [e["flagged"] for e in entries] == [step >= 5 and e["detector_margin"] < threshold for e in entries]
        if len(window) == WINDOW:
            assert abs(np.sum(np.array(window) < threshold) - WINDOW * PERCENTILE / 100) <= 1
            full, flagged = full + len(entries), flagged + sum(e["flagged"] for e in entries)
        if step >= 3:
            window.extend(entry["detector_margin"] for entry in entries)
    assert full == EPOCHS * PAIRS - 8 * 8
    assert flagged / full == pytest.approx(PERCENTILE / 100, abs=0.05)  # of the pairs that came; not so by definition


@pytest.mark.parametrize("processes", [2, 4])
def test_the_split_changes_nothing(folder: Path, processes: int):
    """All ranks keep one log; its pairs, flags and losses, and the policy, are those of a single process (fp32)."""
    alone, log = log_of(folder, 1), log_of(folder, processes)
    assert all(log_of(folder, processes, rank) == log for rank in range(processes))
    for name in ("pair", "step", "flagged", "trusted"):
        assert [entry[name] for entry in log] == [entry[name] for entry in alone]
    for name in ("loss", "margin", "detector_margin"):
        ours, theirs = ([e[name] for e in entries if e[name] is not None] for entries in (log, alone))
        assert ours == pytest.approx(theirs, abs=1e-5)
    expected = safetensors.torch.load_file(folder / "weights_1_0.safetensors")
    for rank in range(processes):
        weights = safetensors.torch.load_file(folder / f"weights_{processes}_{rank}.safetensors")
        for name, weight in weights.items():
            torch.testing.assert_close(weight, expected[name], atol=1e-6, rtol=1e-5, msg=name)


def train_in_processes(rank: int, processes: int, folder: Path, checkpoint: Checkpoint) -> None:
    """``train``, as the pipeline calls it, with 8 and then 5 pairs a step."""
    with process_group(rank, processes, folder / "store"):
        pairs = load_from_disk(str(folder / "pairs"))
        parameters = PLAIN.model_copy(update={"batch_size": 8})
        _, log = train(checkpoint, pairs, parameters, 0.1, iteration=1, seed=0, workspace=folder / str(rank))
        assert [len(entries) for entries in by_step(log).values()] == [8, 8, 4]
        with pytest.raises(ConfigurationError, match="5 pairs can't be shared out evenly to 2 processes"):
            train(checkpoint, pairs, parameters.model_copy(update={"batch_size": 5}), 0.1, 1, 0, folder / str(rank))


def test_a_step_has_as_many_pairs_whatever_the_processes(tiny_checkpoint: Checkpoint, tmp_path: Path):
    """A micro-batch of 8 is the whole step: two processes take 4 each, where they would have made it a step of 16."""
    make_pairs(20).save_to_disk(str(tmp_path / "pairs"))
    launch(train_in_processes, 2, tmp_path, tiny_checkpoint)


FAULTY = PLAIN.model_copy(update={"batch_size": 8, "checkpoint_steps": 100, **TOKENS})


def train_to_an_error(rank: int, processes: int, folder: Path, checkpoint: Checkpoint) -> None:
    """Leaves what the training raised."""
    with process_group(rank, processes, folder / "store"):
        pairs = load_from_disk(str(folder / "pairs"))
        with pytest.raises(DivergenceError) as caught:
            train(checkpoint, pairs, FAULTY, 0.1, 1, seed=0, workspace=folder / "work")
        (folder / f"error_{rank}").write_text(str(caught.value))


def train_under_a_signal(rank: int, processes: int, folder: Path, checkpoint: Checkpoint, store: str) -> None:
    """The second process gets SIGTERM in the second step of three, if it gets there; leaves exit code or log."""
    if rank == 1 and store == "killed":
        add_to_trainings(SignalAt(2, signal.SIGTERM))
    with process_group(rank, processes, folder / store):
        pairs = load_from_disk(str(folder / "pairs"))
        try:
            with exit_on_sigterm():
                _, log = train(checkpoint, pairs, FAULTY, 0.1, 1, seed=0, workspace=folder / "work")
        except SystemExit as end:
            log = end.code
        (folder / f"{store}_{rank}.json").write_text(json.dumps(log))


def test_a_loss_that_is_not_finite_in_one_process_stops_all(tiny_checkpoint: Checkpoint, tmp_path: Path):
    """One pair's weight is broken: both processes name it, and neither waits for the other."""
    pairs = make_pairs(20)
    pairs = pairs.add_column("weight", [float("nan") if row["pair"] == 7 else 1.0 for row in pairs])
    pairs.save_to_disk(str(tmp_path / "pairs"))
    launch(train_to_an_error, 2, tmp_path, tiny_checkpoint, within=60)
    errors = [(tmp_path / f"error_{rank}").read_text() for rank in (0, 1)]
    assert "pairs 7: the loss is not finite" in errors[0]
    assert errors[1] == errors[0]
    assert not (tmp_path / "work/policy").exists()


def test_sigterm_to_one_process_stops_all_with_a_checkpoint(tiny_checkpoint: Checkpoint, tmp_path: Path):
    """Both end as after SIGTERM, no policy is written, and the same command goes on from the checkpoint.

    The step that is left has six pairs: the two that fill it up don't count there either.
    """
    make_pairs(22).save_to_disk(str(tmp_path / "pairs"))
    launch(train_under_a_signal, 2, tmp_path, tiny_checkpoint, "killed", within=60)
    assert [json.loads((tmp_path / f"killed_{rank}.json").read_text()) for rank in (0, 1)] == [128 + signal.SIGTERM] * 2
    verify(tmp_path / "work/checkpoint-2")
    assert not (tmp_path / "work/policy").exists()
    launch(train_under_a_signal, 2, tmp_path, tiny_checkpoint, "resumed", within=60)
    log = json.loads((tmp_path / "resumed_0.json").read_text())
    assert [len(entries) for entries in by_step(log).values()] == [8, 8, 6]
    assert sorted(entry["pair"] for entry in log) == list(range(22))
