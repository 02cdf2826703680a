"""Does rounding decide labels? Against the models' full logits in float64."""

import logging
import random
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset

from selfie.judges.label_agreement import measure_agreement, measure_sampling
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import Arithmetic
from selfie.scoring.attention import share_prompts
from selfie.scoring.log_probs import response_hidden
from selfie.scoring.packed_rows import lay_out, stack

BOTH = [Arithmetic.BFLOAT16, Arithmetic.FLOAT32]
PROMPTS, SAMPLES = 200, 3


@pytest.fixture(scope="module")
def responses() -> Dataset:
    rng = random.Random(0)

    def ids(shortest: int, longest: int) -> list[int]:
        return [rng.randrange(5, 77) for _ in range(rng.randint(shortest, longest))]

    rows = []
    for number in range(PROMPTS):
        prompt = ids(2, 8)
        rows += [{"prompt_id": str(number), "prompt_ids": prompt, "response_ids": ids(4, 20)} for _ in range(SAMPLES)]
    return Dataset.from_list(rows)


@pytest.fixture(scope="module")
def near(tiny_checkpoint: Checkpoint, tmp_path_factory) -> Callable[[float], Checkpoint]:
    """The tiny model after a step of this size in a random direction."""

    def make(size: float) -> Checkpoint:
        folder: Path = tmp_path_factory.mktemp("near")
        model = tiny_checkpoint.load_model(torch.float32)
        torch.manual_seed(0)
        for parameter in model.parameters():
            parameter.data += size * torch.randn_like(parameter)
        model.save_pretrained(folder)
        tiny_checkpoint.load_tokenizer().save_pretrained(folder)
        return Checkpoint(str(folder))

    return make


def naive_log_probs(checkpoint: Checkpoint, rows: Dataset, dtype: torch.dtype) -> np.ndarray:
    model = checkpoint.load_model(dtype)
    sums = []
    for row in rows:
        with torch.no_grad():
            logits = model(torch.tensor([row["prompt_ids"] + row["response_ids"]])).logits[0]
        before = torch.log_softmax(logits.double(), dim=-1)[len(row["prompt_ids"]) - 1 : -1]
        sums.append(before[torch.arange(len(row["response_ids"])), row["response_ids"]].sum().item())
    return np.array(sums)


def test_small_steps_are_refused_in_bf16(responses: Dataset, tiny_checkpoint: Checkpoint, near, caplog):
    """A policy so near the initial model that bf16's rounding is as large as its rewards' differences."""
    found = measure_agreement(responses, near(1e-4), tiny_checkpoint, BOTH, 4096)
    assert found["scoring"] == "float32"
    assert found["label_agreement"] == 1
    assert found["refused"]["bfloat16"] < 0.9
    assert not caplog.records


def test_large_steps_are_not(responses: Dataset, tiny_checkpoint: Checkpoint, near):
    found = measure_agreement(responses, near(0.2), tiny_checkpoint, BOTH, 4096)
    assert found["scoring"] == "bfloat16"
    assert 0.98 <= found["label_agreement"] <= 1
    assert found["refused"] == {}
    low, high = found["label_agreement_ci"]
    assert low < found["label_agreement"] <= high
    assert found["rounding_noise"] < 0.1 * found["reward_spread"]


def test_what_is_asked_for_is_measured_and_warned_of(responses: Dataset, tiny_checkpoint: Checkpoint, near, caplog):
    with caplog.at_level(logging.WARNING):
        found = measure_agreement(responses, near(1e-4), tiny_checkpoint, [Arithmetic.BFLOAT16], 4096)
    assert found["scoring"] == "bfloat16"
    assert found["label_agreement"] < 0.95
    assert "rounding decides the others (precision.scoring)" in caplog.text


def test_the_figures_are_those_of_full_logits(responses: Dataset, tiny_checkpoint: Checkpoint, near):
    """25 prompts, an eighth, with three pairs each; bf16's spread of noise, from float32's differences."""
    policy = near(0.02)
    found = measure_agreement(responses, policy, tiny_checkpoint, [Arithmetic.BFLOAT16], 1)
    chosen = np.linspace(0, PROMPTS - 1, 25).round().astype(int)
    sample = responses.select([SAMPLES * number + k for number in chosen for k in range(SAMPLES)])
    differences = {}
    for dtype in (torch.bfloat16, torch.float32):
        rewards = naive_log_probs(policy, sample, dtype) - naive_log_probs(tiny_checkpoint, sample, dtype)
        differences[dtype] = np.array([a - b for group in rewards.reshape(-1, 3) for a, b in combinations(group, 2)])
    assert found["agreement_pairs"] == 75
    assert found["reward_spread"] == pytest.approx(differences[torch.float32].std(), rel=1e-3)
    noise = (differences[torch.bfloat16] - differences[torch.float32]).std()
    assert found["rounding_noise"] == pytest.approx(noise, rel=0.3)  # another kernel rounds otherwise


def test_float32_is_checked_against_float64(responses: Dataset, tiny_checkpoint: Checkpoint, near):
    """Where it is the only candidate: a few prompts, and noise of its own that is not zero."""
    found = measure_agreement(responses, near(1e-3), tiny_checkpoint, [Arithmetic.FLOAT32], 4096)
    assert found["scoring"] == "float32"
    assert found["label_agreement"] == 1
    assert found["agreement_pairs"] == 18
    assert 0 < found["rounding_noise"] < 1e-4


def test_the_sampled_policy_against_the_trained_one(responses: Dataset, tiny_checkpoint: Checkpoint, near, caplog):
    """KL by position over the whole vocabulary; of a small step bf16 is a large share."""
    policy = near(1e-4)
    found = measure_sampling(responses, policy, tiny_checkpoint, Arithmetic.BFLOAT16, 4096)
    chosen = np.linspace(0, PROMPTS - 1, 6).round().astype(int)
    sample = responses.select([SAMPLES * number + k for number in chosen for k in range(SAMPLES)])
    kl = []
    models = [policy.load_model(dtype) for dtype in (torch.bfloat16, torch.float32)]
    sharing = min([share_prompts(model, 28) for model in models])
    for row in lay_out(sample["prompt_ids"][:], sample["response_ids"][:], sharing, longest=4096):
        # The same rows for the same kernels: in bf16 another layout rounds otherwise, by a fifth of this KL.
        rows = stack([row], sharing, torch.device("cpu"))
        with torch.no_grad():
            logits = [model.get_output_embeddings()(response_hidden(model, rows)).double() for model in models]
        log_p, log_q = (torch.log_softmax(one, dim=-1) for one in logits)
        kl += (log_p.exp() * (log_p - log_q)).sum(-1).tolist()
    assert found["sampling_kl"] == pytest.approx(np.mean(kl), rel=1e-2)
    assert found["sampling_kl"] > 0


def test_nothing_to_measure_in_float32(responses: Dataset, tiny_checkpoint: Checkpoint):
    found = measure_sampling(responses, tiny_checkpoint, tiny_checkpoint, Arithmetic.FLOAT32, 4096)
    assert found == {"sampling": "float32", "sampling_kl": None, "sampling_kl_share": None}
