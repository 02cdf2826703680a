"""Chunked log-probs: by hand, against the plain computation over all logits, and the memory that they take."""

import math
from collections.abc import Callable
from itertools import accumulate

import pytest
import torch
import transformers

from selfie.preference.token_log_probs import (
    Head,
    extrapolated_token_log_probs,
    sum_by_sequence,
    token_kl,
    token_log_probs,
)

POSITIONS, WIDTH, VOCABULARY = 37, 16, 53
TOKENS = torch.arange(POSITIONS) * 7 % VOCABULARY


def random_head(seed: int, **scales: float) -> Head:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator).requires_grad_()
    bias = torch.randn(VOCABULARY, generator=generator).requires_grad_()
    return Head(weight, bias, **scales)


def random_hidden(seed: int) -> torch.Tensor:
    return torch.randn(POSITIONS, WIDTH, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def naive_logits(hidden: torch.Tensor, head: Head) -> torch.Tensor:
    logits = (hidden @ head.weight.T + head.bias) * head.scale
    return logits if head.softcap is None else head.softcap * torch.tanh(logits / head.softcap)


def naive_log_probs(logits: torch.Tensor) -> torch.Tensor:
    return torch.log_softmax(logits, dim=-1)[torch.arange(POSITIONS), TOKENS]


def test_logits_by_hand():
    """h = (1, 2), rows (3, 0), (0, −1) and b = (1, 0): h·Wᵀ + b = (4, −2), halved (2, −1), capped at 2: 2·tanh(1), …"""
    weight, bias = torch.tensor([[3.0, 0.0], [0.0, -1.0]]), torch.tensor([1.0, 0.0])
    hidden = torch.tensor([[1.0, 2.0]])
    torch.testing.assert_close(Head(weight, bias).logits(hidden), torch.tensor([[4.0, -2.0]]))
    torch.testing.assert_close(Head(weight, bias, 0.5).logits(hidden), torch.tensor([[2.0, -1.0]]))
    capped = torch.tensor([[2 * math.tanh(1.0), -2 * math.tanh(0.5)]])
    torch.testing.assert_close(Head(weight, bias, 0.5, 2.0).logits(hidden), capped)


def test_logits_are_float32_of_a_head_in_bf16():
    """3 + 2⁻⁹ is 3 in bf16, and so is the hidden state before the product."""
    head = Head(torch.tensor([[1.0], [0.5]]).bfloat16())
    logits = head.logits(torch.tensor([[3 + 2**-9]]))
    assert logits.dtype == torch.float32
    assert logits.tolist() == [[3.0, 1.5]]


def test_every_position_needs_its_token():
    hidden, head, chunk = random_hidden(0), random_head(1), 5 * VOCABULARY
    with pytest.raises(ValueError, match="shorter"):
        token_log_probs(hidden, TOKENS[:30], head, chunk)
    with pytest.raises(ValueError, match="shorter"):
        extrapolated_token_log_probs(hidden, head, hidden, head, TOKENS[:30], 0.5, chunk)


def test_a_frozen_body_leaves_the_head_its_gradients():
    """Where chunks are computed again, too."""
    head = random_head(1)
    token_log_probs(random_hidden(0).detach(), TOKENS, head, 5 * VOCABULARY, 1).sum().backward()
    assert head.weight.grad is not None


def test_log_probs_by_hand():
    """Logits (ln 6, ln 3, 0) make probabilities (0.6, 0.3, 0.1); twice the state squares the odds: (36, 9, 1)/46."""
    head = Head(torch.tensor([[math.log(6)], [math.log(3)], [0.0]]))
    values = token_log_probs(torch.tensor([[1.0], [1.0], [2.0]]), torch.tensor([1, 2, 0]), head)
    torch.testing.assert_close(values, torch.tensor([0.3, 0.1, 36 / 46]).log())


def test_positions_of_a_chunk_by_hand():
    """100 logits are 33 positions of a vocabulary of 3; a vocabulary of 53 has one, though it takes up 53 of 40."""
    assert Head(torch.zeros(3, 1)).positions(100) == 33
    assert random_head(0).positions(40) == 1


@pytest.mark.parametrize("chunk", [1, 5, POSITIONS, 1024])
@pytest.mark.parametrize("kept", [1, 1024 * VOCABULARY])
@pytest.mark.parametrize("scales", [{}, {"scale": 0.3}, {"softcap": 2.0}, {"scale": 2.0, "softcap": 5.0}])
def test_values_and_gradients_equal_the_full_softmax(chunk: int, kept: int, scales: dict[str, float]):
    """With weights that differ by position, so that a gradient sent to the wrong one shows; logits kept or not."""
    weights = torch.linspace(-1, 2, POSITIONS)
    results = []
    for chunked in (True, False):
        hidden, head = random_hidden(0), random_head(1, **scales)
        values = (
            token_log_probs(hidden, TOKENS, head, chunk * VOCABULARY, kept)
            if chunked
            else naive_log_probs(naive_logits(hidden, head))
        )
        (weights * values).sum().backward()
        results.append([values.detach(), hidden.grad, head.weight.grad, head.bias.grad])
    for ours, naive in zip(*results, strict=True):
        torch.testing.assert_close(ours, naive, atol=1e-5, rtol=1e-5)


def test_without_gradients_the_values_are_the_same():
    with torch.no_grad():
        values = token_log_probs(random_hidden(0), TOKENS, random_head(1), 5 * VOCABULARY)
    assert not values.requires_grad
    torch.testing.assert_close(values, token_log_probs(random_hidden(0), TOKENS, random_head(1)).detach())


@pytest.mark.parametrize("extrapolation", [0.125, 0.5, 2.0])
@pytest.mark.parametrize("chunk", [4, 1024])
@pytest.mark.parametrize("scales", [{}, {"scale": 0.25, "softcap": 1.5}])
def test_extrapolation_by_the_formula(extrapolation: float, chunk: int, scales: dict[str, float]):
    """h̃ = (1 + λ)·h_θ − λ·h_ref over scaled and capped logits, then log-softmax.

    Capping the combination instead would give other numbers: the cap binds here.
    """
    policy, reference = random_hidden(0), random_hidden(2)
    policy_head, reference_head = random_head(1, **scales), random_head(3, **scales)
    values, of_reference = extrapolated_token_log_probs(
        policy, policy_head, reference, reference_head, TOKENS, extrapolation, chunk * VOCABULARY
    )
    combined = (1 + extrapolation) * naive_logits(policy, policy_head) - extrapolation * naive_logits(
        reference, reference_head
    )
    torch.testing.assert_close(values, naive_log_probs(combined).detach(), atol=1e-5, rtol=1e-5)
    assert not values.requires_grad
    own = token_log_probs(reference, TOKENS, reference_head, chunk * VOCABULARY)
    assert torch.equal(of_reference, own)  # to the bit: margins begin at zero


def test_no_extrapolation_is_the_policy():
    values, _ = extrapolated_token_log_probs(
        random_hidden(0), random_head(1), random_hidden(2), random_head(3), TOKENS, extrapolation=0.0
    )
    own = token_log_probs(random_hidden(0), TOKENS, random_head(1)).detach()
    torch.testing.assert_close(values, own, atol=1e-5, rtol=1e-5)


def test_extrapolation_goes_away_from_the_reference():
    """One position, two tokens, uniform reference: logits (a, 0) become ((1 + λ)·a, 0), so p = σ((1 + λ)·a)."""
    head = Head(torch.tensor([[1.0], [0.0]]))
    hidden, nothing = torch.tensor([[2.0]]), torch.tensor([[0.0]])
    value, _ = extrapolated_token_log_probs(hidden, head, nothing, head, torch.tensor([0]), extrapolation=0.5)
    torch.testing.assert_close(value, torch.nn.functional.logsigmoid(torch.tensor([3.0])))


def test_sum_by_sequence_by_hand():
    """Sequences of 2, 0 and 1 tokens take 1 + 2, nothing, and 4."""
    assert sum_by_sequence(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 0, 2]), 3).tolist() == [3.0, 0.0, 4.0]
    large = torch.tensor([2.0**24, 1.0])  # whose sum float32 does not have
    assert sum_by_sequence(large, torch.tensor([0, 0]), 1).tolist() == [2**24 + 1]


def test_kl_by_hand():
    """p = (0.6, 0.3, 0.1) and (36, 9, 1)/46 against even odds: Σ p·ln 3p; against itself nothing."""
    head, even = Head(torch.tensor([[math.log(6)], [math.log(3)], [0.0]])), Head(torch.zeros(3, 1))
    hidden = torch.tensor([[1.0], [2.0]], requires_grad=True)
    expected = [sum(p * math.log(3 * p) for p in row) for row in ((0.6, 0.3, 0.1), (36 / 46, 9 / 46, 1 / 46))]
    found = token_kl(hidden, head, hidden, even)
    assert found.tolist() == pytest.approx(expected, abs=1e-6)
    assert not found.requires_grad
    assert token_kl(hidden, head, hidden, head).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("logits", [5 * VOCABULARY, 1024 * VOCABULARY])
def test_kl_in_chunks_is_that_of_the_full_softmax(logits: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("selfie.preference.token_log_probs.CPU_LOGITS", logits)
    hidden, other, head, other_head = random_hidden(0), random_hidden(2), random_head(1), random_head(3)
    p, q = (torch.log_softmax(naive_logits(*one), -1).detach() for one in ((hidden, head), (other, other_head)))
    torch.testing.assert_close(token_kl(hidden, head, other, other_head), (p.exp() * (p - q)).sum(-1))
    if logits < POSITIONS * VOCABULARY:
        with pytest.raises(ValueError, match="shorter"):
            token_kl(hidden, head, other[:30], other_head)


SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FAMILIES = {
    "Llama": {},
    "Phi": {},  # its head has a bias
    "Gemma2": {"head_dim": 8, "final_logit_softcapping": 2.0},
    "Cohere": {"logit_scale": 0.25},
    "Granite": {"logits_scaling": 8.0},
    "FalconH1": {"lm_head_multiplier": 0.3, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8},
    "MiniCPM3": {"dim_model_base": 16},
    "HyperCLOVAX": {"logits_scaling": 0.25},
    "RecurrentGemma": {"lru_width": 32, "head_dim": 8, "logits_soft_cap": 2.0},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_head_gives_the_models_own_logits(family: str):
    """Real models with random weights, large enough for caps to bind and biases to count."""
    config = getattr(transformers, f"{family}Config")(**SHAPE, **FAMILIES[family])
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    input_ids = torch.randint(3, 64, (2, 7))
    with torch.no_grad():
        expected = model(input_ids=input_ids).logits
        hidden = model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
        ours = Head.of(model).logits(hidden)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_a_heads_settings_multiply():
    """Muse Glimmer's multiplier of ½, and a division by 4 as Granite's: an eighth; a cap as xLSTM's."""
    config = transformers.LlamaConfig(**SHAPE, output_multiplier=0.5, logits_scaling=4.0, output_logit_soft_cap=3.0)
    head = Head.of(transformers.LlamaForCausalLM(config))
    assert (head.scale, head.softcap) == (0.125, 3.0)


SMALL, LARGE = 16_000, 128_000
TOKENS_LONG, NARROW = 600, 32
BUDGET = 2**21  # 131 positions of the small vocabulary, 16 of the large one


def peak_memory(vocabulary: int, compute: Callable[[torch.Tensor, torch.Tensor, Head], None]) -> tuple[float, float]:
    """(Peak of everything else, peak of the head's gradient), MiB that PyTorch's allocator handed out in ``compute``.

    Its profiler sees every allocation, those inside a kernel too. What exists before (hidden states, the head) isn't
    counted. What has the head's size [vocabulary × width] is the head's gradient, or a chunk's share of it: counted
    apart, for it grows with the vocabulary as the head does.
    """
    torch.manual_seed(0)
    head = Head(torch.randn(vocabulary, NARROW, requires_grad=True))
    hidden = torch.randn(TOKENS_LONG, NARROW, requires_grad=True)
    tokens = torch.randint(vocabulary, (TOKENS_LONG,))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        compute(hidden, tokens, head)
    events = profile.profiler.kineto_results.events()
    allocated = [event.nbytes() for event in sorted(events, key=lambda e: e.start_ns()) if event.name() == "[memory]"]
    of_head = head.weight.nbytes
    assert sum(size > 0 for size in allocated) > TOKENS_LONG // head.positions(BUDGET)  # it did see the chunks
    peaks = [
        max(accumulate([size if (abs(size) == of_head) == is_head else 0 for size in allocated]))
        for is_head in (False, True)
    ]
    return peaks[0] / 2**20, peaks[1] / 2**20


def score_only(hidden: torch.Tensor, tokens: torch.Tensor, head: Head) -> None:
    with torch.no_grad():
        token_log_probs(hidden, tokens, head, BUDGET)


def forward_and_backward(hidden: torch.Tensor, tokens: torch.Tensor, head: Head) -> None:
    token_log_probs(hidden, tokens, head, BUDGET, kept_logits=BUDGET).sum().backward()


def extrapolate(hidden: torch.Tensor, tokens: torch.Tensor, head: Head) -> None:
    extrapolated_token_log_probs(hidden, head, hidden * 0.9, head, tokens, 0.5, BUDGET)


@pytest.mark.parametrize("compute", [score_only, forward_and_backward, extrapolate])
def test_memory_does_not_grow_with_the_vocabulary(compute: Callable[[torch.Tensor, torch.Tensor, Head], None]):
    """At 128k it is less than 15% above that at 16k, and at most four chunks of 8 MiB; all logits would be 293 MiB.

    Beside that, the backward pass holds the head's gradient so far, one chunk's share of it, and their sum.
    """
    (small, _), (large, gradient) = peak_memory(SMALL, compute), peak_memory(LARGE, compute)
    chunk = 4 * BUDGET / 2**20
    assert large < 1.15 * small
    assert large < 4.1 * chunk
    assert gradient <= 3 * 4 * LARGE * NARROW / 2**20
