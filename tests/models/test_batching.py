"""Memory that runs out: batches ask for more than any machine grants."""

import pytest
import torch

from faults import room_for
from selfie.generation.engine import Request, Sampling
from selfie.generation.transformers_engine import TransformersEngine
from selfie.models.batching import with_oom_backoff
from selfie.models.checkpoint import Checkpoint
from selfie.scoring import log_probs
from selfie.scoring.log_probs import score

ROWS = 60
HALVED = [f"out of memory with {rows} rows: going on with {rows // 2}" for rows in (60, 30, 30)]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message.split(";")[0] for record in caplog.records if record.levelname == "WARNING"]


def test_scoring_goes_on_with_half_the_batch(fp32_checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture):
    prompts = [[5 + row % 50, 6, 7] for row in range(ROWS)]
    responses = [[8 + row % 40] * 40 for row in range(ROWS)]
    with room_for(20, log_probs, "stack", size=lambda rows, *_: len(rows)):
        sums = score(fp32_checkpoint, prompts, responses, 10**9, "policy")
    assert warnings(caplog) == HALVED
    assert sums == pytest.approx(score(fp32_checkpoint, prompts, responses, 1, "policy"), abs=1e-3)


def test_sampling_goes_on_with_half_the_batch(fp32_checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture):
    requests = [Request([5 + seed % 50] * 30, seed) for seed in range(ROWS)]

    def draw(budget: int) -> list:
        with TransformersEngine(fp32_checkpoint, budget) as engine:
            return [response.token_ids for response in engine.generate(requests, Sampling(1.0, 1.0, 3))]

    with room_for(20, TransformersEngine, "_generate_batch", size=lambda _, some, *__: len(some)):
        drawn = draw(10**9)
    assert warnings(caplog) == HALVED
    assert drawn == draw(1)


def test_a_row_that_does_not_fit_alone_is_an_error():
    """An allocation that no machine grants, and an error that has nothing to do with memory."""
    tried = []

    def too_much(batch: list[int]) -> list[int]:
        tried.append(len(batch))
        return torch.empty(2**50).tolist()

    with pytest.raises(RuntimeError, match="allocate"):
        with_oom_backoff(too_much, [0, 1, 2, 3])
    assert tried == [4, 2, 1]
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        with_oom_backoff(lambda batch: tried.append(batch) or torch.ones(2, 3) @ torch.ones(2, 3), [0, 1])
    assert tried[3:] == [[0, 1]]
