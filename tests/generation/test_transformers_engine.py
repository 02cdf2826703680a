"""Sampling: the right distribution, one random stream a row, and where a response ends."""

import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from transformers import GenerationConfig

from selfie.generation import transformers_engine
from selfie.generation.engine import Request, Response, Sampling
from selfie.generation.transformers_engine import SeededSampler, TransformersEngine
from selfie.models.batching import token_batches
from selfie.models.checkpoint import Checkpoint
from selfie.runtime.random_seeds import derive_seed

DRAWS = 20_000
PROBABILITIES = [0.05, 0.5, 0.0, 0.15, 0.3]
LOGITS = torch.tensor(PROBABILITIES).log()
WHOLE = Sampling(temperature=1.0, top_p=1.0, max_new_tokens=24)


def draw(logits: torch.Tensor, sampling: Sampling, step: int = 0) -> torch.Tensor:
    """Token drawn by each of 20,000 rows with seeds as the generation makes them, shape [rows]."""
    sampler = SeededSampler([derive_seed(0, "test", row) for row in range(DRAWS)], sampling, prompt_length=3)
    scores = sampler(torch.zeros(DRAWS, 3 + step, dtype=torch.long), logits.expand(DRAWS, -1))
    assert ((scores == 0).sum(-1) == 1).all()  # greedy search has no choice left
    return scores.argmax(-1)


def fits(tokens: torch.Tensor, probabilities: list[float]) -> bool:
    """Chi-square at 0.1%, after making sure that impossible tokens never came."""
    counts = torch.bincount(tokens, minlength=len(probabilities)).double().numpy()
    possible = [p > 0 for p in probabilities]
    expected = [p * DRAWS for p in probabilities if p > 0]
    impossible = sum(c for c, p in zip(counts, possible, strict=True) if not p)
    return impossible == 0 and chisquare(counts[possible], expected).pvalue > 1e-3


@pytest.mark.parametrize("step", [0, 5])
def test_draws_from_the_distribution(step: int):
    """Softmax of the logits, whose constant offset must not matter."""
    tokens = draw(LOGITS + 4.0, WHOLE, step)
    assert fits(tokens, PROBABILITIES)


def test_temperature_sharpens():
    """At temperature ½ probabilities are squared: (0.0025, 0.25, 0, 0.0225, 0.09)/0.365."""
    tokens = draw(LOGITS, replace(WHOLE, temperature=0.5))
    assert fits(tokens, [0.0025 / 0.365, 0.25 / 0.365, 0.0, 0.0225 / 0.365, 0.09 / 0.365])
    assert not fits(tokens, PROBABILITIES)


def test_top_p_excludes_the_tail():
    """0.5 + 0.3 is the smallest set that holds a mass of 0.7: the rest never comes, those two come 5 : 3."""
    tokens = draw(LOGITS, replace(WHOLE, top_p=0.7))
    assert fits(tokens, [0.0, 0.625, 0.0, 0.0, 0.375])


def test_steps_are_independent():
    """Where token 1 (probability ½) came first, it comes again half of the time: 4σ of 10,000 draws is 0.02."""
    first, second = draw(LOGITS, WHOLE, step=0), draw(LOGITS, WHOLE, step=1)
    assert (second[first == 1] == 1).float().mean().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("uniform", "expected"), [(0.0, 1), (1 - 2**-24, 3), (1.0, 3)])
def test_extreme_draws_never_hit_an_impossible_token(uniform: float, expected: int):
    """The smallest and the largest fp32 number in [0, 1), and 1 as if by rounding; both end tokens are impossible."""
    sampler = SeededSampler([0], WHOLE, prompt_length=1)
    sampler.uniforms[:] = uniform
    logits = torch.tensor([[-torch.inf, 0.1, 0.2, 0.3, -torch.inf]])
    assert sampler(torch.zeros(1, 1, dtype=torch.long), logits).argmax().item() == expected


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 400))
def test_token_batches_respect_the_budget_and_are_full(lengths: list[int], budget: int):
    """Every index once; rows × longest within the budget, but for a row that exceeds it alone; no batch had room for
    the next one's first row too.
    """
    batches = list(token_batches(lengths, budget))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[index] for index in batch)
        assert len(batch) == 1 or len(batch) * longest <= budget
        assert batch is batches[-1] or (len(batch) + 1) * longest > budget


@pytest.fixture
def requests() -> list[Request]:
    """48 prompts of 2 to 20 tokens."""
    rng = random.Random(0)
    return [Request([rng.randrange(5, 77) for _ in range(rng.randint(2, 20))], derive_seed(0, i)) for i in range(48)]


def generate(checkpoint: Checkpoint, requests: list[Request], batch_tokens: int = 10_000) -> list[Response]:
    with TransformersEngine(checkpoint, batch_tokens) as engine:
        return engine.generate(requests, WHOLE)


def test_a_sample_depends_on_its_request_alone(fp32_checkpoint: Checkpoint, requests: list[Request]):
    """All 48 in one batch, a few at a time, in reverse, or a part of them: the same tokens.

    In fp32: bf16 rounds differently in batches of different shape, and a draw near a border falls to its other side.
    """
    together = generate(fp32_checkpoint, requests)
    assert generate(fp32_checkpoint, requests, batch_tokens=150) == together
    assert generate(fp32_checkpoint, requests[::-1], batch_tokens=400) == together[::-1]
    assert generate(fp32_checkpoint, requests[7:10]) == together[7:10]


def test_the_seed_decides(tiny_checkpoint: Checkpoint, requests: list[Request]):
    """The engine as it is (bf16): the same call gives the same samples, other seeds give others."""
    first = generate(tiny_checkpoint, requests)
    assert generate(tiny_checkpoint, requests) == first
    reseeded = generate(tiny_checkpoint, [replace(request, seed=request.seed + 1) for request in requests])
    assert sum(a == b for a, b in zip(first, reseeded, strict=True)) < 5


def test_samples_of_one_prompt_differ(tiny_checkpoint: Checkpoint, requests: list[Request]):
    responses = generate(tiny_checkpoint, [Request(requests[0].prompt_ids, derive_seed(0, i)) for i in range(16)])
    assert len({tuple(response.token_ids) for response in responses}) > 12


def test_where_a_response_ends(tiny_checkpoint: Checkpoint, requests: list[Request]):
    """``stop``: EOS is there, once and last, and nothing of the padding; ``length``: 24 tokens and no EOS."""
    eos = tiny_checkpoint.load_tokenizer().eos_token_id
    responses = generate(tiny_checkpoint, requests)
    stopped = [r.token_ids for r in responses if r.finish_reason == "stop"]
    cut = [r.token_ids for r in responses if r.finish_reason == "length"]
    assert len(stopped) > 3
    assert len(cut) > 3
    assert all(ids.index(eos) == len(ids) - 1 for ids in stopped)
    assert all(eos not in ids and len(ids) == WHOLE.max_new_tokens for ids in cut)
    assert min(map(len, stopped)) < max(map(len, stopped))


def with_settings(checkpoint: Checkpoint, folder: Path, **settings) -> Checkpoint:
    """The model with a ``generation_config.json`` of its own."""
    shutil.copytree(checkpoint.source, folder)
    GenerationConfig(**settings).save_pretrained(folder)
    return type(checkpoint)(str(folder))


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 1.3},
        {"suppress_tokens": [*range(30, 70)]},
        {"bad_words_ids": [[number] for number in range(30, 70)]},
        {"min_new_tokens": 24},
        {"no_repeat_ngram_size": 1},
        {"forced_eos_token_id": 9},
        {"begin_suppress_tokens": [*range(30, 70)]},
        {"do_sample": True, "temperature": 0.1, "top_k": 1},
        {"max_length": 4, "num_beams": 3},
        {"cache_implementation": "static"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_the_models_own_settings_change_no_sample(
    fp32_checkpoint: Checkpoint, requests: list[Request], tmp_path: Path, settings
):
    """Samples are those of the model's distribution, whatever its file recommends for chatting."""
    expected = generate(fp32_checkpoint, requests[:16])
    assert generate(with_settings(fp32_checkpoint, tmp_path / "model", **settings), requests[:16]) == expected


def test_every_end_of_sequence_token_ends(fp32_checkpoint: Checkpoint, requests: list[Request], tmp_path: Path):
    """With two more of them a response is what it was without, up to the first of any."""
    stops = [fp32_checkpoint.load_tokenizer().eos_token_id, 40, 50]
    shorter = generate(with_settings(fp32_checkpoint, tmp_path / "model", eos_token_id=stops), requests)
    for before, now in zip(generate(fp32_checkpoint, requests), shorter, strict=True):
        first = next((i for i, token in enumerate(before.token_ids) if token in stops), None)
        assert now.token_ids == before.token_ids[: None if first is None else first + 1]
        assert now.finish_reason == ("length" if first is None else "stop")
    assert {response.token_ids[-1] for response in shorter} > {40, 50}


def test_samples_follow_the_model(fp32_checkpoint: Checkpoint):
    """First tokens of 2,000 samples of one prompt against the model's own softmax (chi-square at 0.1%)."""
    prompt = [3, 60, 61, 62, 4]
    with TransformersEngine(fp32_checkpoint, 100_000) as engine:
        requests = [Request(prompt, derive_seed(1, i)) for i in range(2000)]
        responses = engine.generate(requests, replace(WHOLE, max_new_tokens=1))
        with torch.no_grad():
            logits = engine.model(input_ids=torch.tensor([prompt], device=engine.model.device)).logits[0, -1]
    expected = 2000 * torch.softmax(logits.double().cpu(), -1)
    counts = torch.bincount(torch.tensor([r.token_ids[0] for r in responses]), minlength=len(expected)).double()
    frequent = expected >= 10
    observed = [*counts[frequent].tolist(), counts[~frequent].sum().item()]
    assert chisquare(observed, [*expected[frequent].tolist(), expected[~frequent].sum().item()]).pvalue > 1e-3


def test_rows_that_are_done_stop_costing(
    fp32_checkpoint: Checkpoint, requests: list[Request], monkeypatch: pytest.MonkeyPatch
):
    """Fewer rows are computed than with every one kept to the end, for the same tokens (fp32)."""
    long, samples, computed = replace(WHOLE, max_new_tokens=80), [], []
    for share in (transformers_engine.DONE_SHARE, 2.0):
        monkeypatch.setattr(transformers_engine, "DONE_SHARE", share)
        with TransformersEngine(fp32_checkpoint, 100_000) as engine:
            widths: list[int] = []
            engine.model.lm_head.register_forward_hook(
                lambda module, inputs, _, widths=widths: widths.append(len(inputs[0]))
            )
            samples.append(engine.generate(requests, long))
        computed.append(sum(widths))
    assert samples[0] == samples[1]
    assert computed[1] == 48 * max(len(response.token_ids) for response in samples[1])
    assert computed[0] < 0.8 * computed[1]
