"""Memory that runs out, for real: a limit on the process's address space, in a process of its own."""

from pathlib import Path

import pytest
import torch

from faults import within_memory
from selfie.checkpoints import Checkpoint
from selfie.generation.batches import halving
from selfie.generation.engine import Request, Sampling
from selfie.generation.transformers_engine import TransformersEngine
from selfie.scoring.sequence_log_probs import score

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
ROWS = 6000


def test_scoring_goes_on_with_half_the_batch(fp32_checkpoint: Checkpoint, tmp_path: Path):
    prompts = [[5 + row % 50, 6, 7] for row in range(ROWS)]
    responses = [[8 + row % 40] * 40 for row in range(ROWS)]
    sums, log = within_memory(150, lambda: score(fp32_checkpoint, prompts, responses, 10**9, "policy"), tmp_path)
    assert f"out of memory with {ROWS} rows: going on with {ROWS // 2}" in log
    picked = range(0, ROWS, 500)
    alone = score(fp32_checkpoint, [prompts[i] for i in picked], [responses[i] for i in picked], 1, "policy")
    assert [sums[i] for i in picked] == pytest.approx(alone, abs=1e-3)


def test_sampling_goes_on_with_half_the_batch(fp32_checkpoint: Checkpoint, tmp_path: Path):
    requests = [Request([5 + seed % 50] * 30, seed) for seed in range(ROWS)]
    sampling = Sampling(1.0, 1.0, 3)

    def draw(some: list[Request], budget: int) -> list:
        with TransformersEngine(fp32_checkpoint, budget) as engine:
            return [response.token_ids for response in engine.generate(some, sampling)]

    drawn, log = within_memory(100, lambda: draw(requests, 10**9), tmp_path)
    assert f"out of memory with {ROWS} rows: going on with {ROWS // 2}" in log
    picked = range(0, ROWS, 500)
    assert [drawn[i] for i in picked] == draw([requests[i] for i in picked], 1)


def test_a_row_that_does_not_fit_alone_is_an_error():
    """An allocation that no machine grants, and an error that has nothing to do with memory."""
    tried = []

    def too_much(batch: list[int]) -> list[int]:
        tried.append(len(batch))
        return torch.empty(2**50).tolist()

    with pytest.raises(RuntimeError, match="allocate"):
        halving(too_much, [0, 1, 2, 3])
    assert tried == [4, 2, 1]
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        halving(lambda batch: tried.append(batch) or torch.ones(2, 3) @ torch.ones(2, 3), [0, 1])
    assert tried[3:] == [[0, 1]]
