"""Sequence log-probs against one plain forward pass a sequence."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaForCausalLM, PreTrainedModel

from selfie.models.checkpoint import Checkpoint
from selfie.scoring.attention import share_prompts
from selfie.scoring.log_probs import response_log_probs, score
from selfie.scoring.packed_rows import Rows, lay_out, stack

CPU = torch.device("cpu")


def plain(prompts: list[list[int]], responses: list[list[int]]) -> Rows:
    """A row a response."""
    return stack(lay_out(prompts, responses, False), False, CPU)


@pytest.fixture
def sequences() -> tuple[list[list[int]], list[list[int]]]:
    """40 prompts of 2 to 9 tokens, each with a response of 1 to 20, most of which end in EOS."""
    rng = random.Random(0)
    prompts = [[rng.randrange(5, 77) for _ in range(rng.randint(2, 9))] for _ in range(40)]
    responses = [[rng.randrange(5, 77) for _ in range(rng.randint(0, 19))] + [1] for _ in range(40)]
    responses[0] = [*responses[0][:-1], 7, 7]
    return prompts, responses


@pytest.fixture(scope="module")
def fp32_model(fp32_checkpoint: Checkpoint) -> LlamaForCausalLM:
    """One for all of a property's examples; nothing changes it."""
    return fp32_checkpoint.load_model(torch.float32).to(CPU)


def naive_token_log_probs(model: PreTrainedModel, prompt: list[int], response: list[int]) -> list[float]:
    """log p(token | everything before it), one row, no padding, the full logits."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + response])).logits[0].float()
    predictions = torch.log_softmax(logits, dim=-1)
    return [predictions[len(prompt) + i - 1, token].item() for i, token in enumerate(response)]


def test_equals_one_plain_pass_a_sequence(tiny_model: LlamaForCausalLM, sequences):
    """In fp32, for rows of every length padded into one batch, at 1e-5 (relative) of sums of up to 20 tokens."""
    prompts, responses = sequences
    with torch.no_grad():
        sums, hidden = response_log_probs(tiny_model, plain(prompts, responses))
    expected = [sum(naive_token_log_probs(tiny_model, p, r)) for p, r in zip(prompts, responses, strict=True)]
    torch.testing.assert_close(sums, torch.tensor(expected, dtype=torch.float64), atol=1e-4, rtol=1e-5)
    assert hidden.shape == (sum(map(len, responses)), tiny_model.config.hidden_size)


def test_hidden_states_come_row_after_row(tiny_model: LlamaForCausalLM, sequences):
    """Those of row 3 are the ones that row 3 gives alone: the detector pairs them with the other model's."""
    prompts, responses = sequences
    with torch.no_grad():
        _, together = response_log_probs(tiny_model, plain(prompts, responses))
        _, alone = response_log_probs(tiny_model, plain(prompts[3:4], responses[3:4]))
    start = sum(map(len, responses[:3]))
    torch.testing.assert_close(together[start : start + len(responses[3])], alone, atol=1e-5, rtol=1e-5)


def test_only_masked_tokens_count(tiny_model: LlamaForCausalLM):
    """Moving the border between prompt and response by one token changes the sum by that token's log-prob."""
    tokens, log_probs = [10, 60, 61, 62, 20, 30, 40, 1], []
    for border in (3, 4):
        with torch.no_grad():
            log_probs.append(response_log_probs(tiny_model, plain([tokens[:border]], [tokens[border:]]))[0].item())
    token = naive_token_log_probs(tiny_model, tokens[:3], tokens[3:])[0]
    assert log_probs[0] - log_probs[1] == pytest.approx(token, abs=1e-5)
    assert token < -0.1  # else the test could not fail


@pytest.mark.parametrize("sharing", [False, True])
def test_gradients_reach_every_parameter(tiny_model: LlamaForCausalLM, sequences, sharing: bool):
    prompts, responses = sequences
    assert share_prompts(tiny_model, longest=24)
    rows = stack(lay_out([prompts[0]] * 4, responses[:4], sharing), sharing, CPU)
    response_log_probs(tiny_model, rows)[0].sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in tiny_model.parameters())


IDS = st.lists(st.integers(0, 76), min_size=1, max_size=12)


@settings(max_examples=25)
@given(st.lists(st.tuples(IDS, IDS), min_size=1, max_size=6), st.randoms(use_true_random=False), st.integers(1, 40))
def test_padding_and_order_change_nothing(fp32_model: LlamaForCausalLM, rows, rng: random.Random, longest: int):
    """Each row alone, and all of them shuffled and padded to the length of another (1e-5 a token in fp32).

    Every id may occur, those of padding and EOS too: only the masks say what counts.
    """
    shuffled = rng.sample(range(len(rows)), len(rows))
    prompts, responses = ([rows[i][side] for i in shuffled] for side in (0, 1))
    with torch.no_grad():
        together, _ = response_log_probs(fp32_model, plain([*prompts, [5] * longest], [*responses, [5]]))
        for value, i in zip(together.tolist()[:-1], shuffled, strict=True):
            alone, _ = response_log_probs(fp32_model, plain([rows[i][0]], [rows[i][1]]))
            assert value == pytest.approx(alone.item(), abs=1e-5 * len(rows[i][1]), rel=1e-5)


@settings(max_examples=25)
@given(IDS, IDS, st.integers(0, 2**32 - 1))
def test_what_the_model_says_of_the_prompt_has_no_influence(
    fp32_model: LlamaForCausalLM, prompt: list[int], response: list[int], seed: int
):
    """Noise on the last hidden states, after all conditioning, at the positions that predict prompt tokens.

    Not a bit of the score changes; nor by noise at the end, which predicts nothing. At the positions that predict
    response tokens it does change.
    """
    rows = plain([prompt], [response])
    noise = torch.randn(1, rows.input_ids.shape[1], fp32_model.config.hidden_size, generator=torch.manual_seed(seed))
    predicts = torch.zeros_like(noise)
    predicts[:, len(prompt) - 1 : -1] = 1
    scores = []
    for added in (torch.zeros_like(noise), noise * (1 - predicts), noise * predicts):
        hook = fp32_model.base_model.norm.register_forward_hook(lambda *call, added=added: call[2] + added)
        with hook, torch.no_grad():
            scores.append(response_log_probs(fp32_model, rows)[0].item())
    assert scores[1] == scores[0]
    assert scores[2] != scores[0]


def test_scores_depend_on_neither_budget_nor_order(fp32_checkpoint: Checkpoint, sequences):
    """One row a batch, a few, or all at once; forwards or backwards: 1e-4 in fp32."""
    prompts, responses = sequences
    alone = score(fp32_checkpoint, prompts, responses, 1, "policy")
    for budget in (60, 10_000):
        assert score(fp32_checkpoint, prompts, responses, budget, "policy") == pytest.approx(alone, abs=1e-4)
    backwards = score(fp32_checkpoint, prompts[::-1], responses[::-1], 60, "policy")
    assert backwards[::-1] == pytest.approx(alone, abs=1e-4)
    assert len({round(value, 3) for value in alone}) == len(alone)  # else a mix-up of rows would not show


def test_bf16_scores_are_near_a_plain_bf16_pass(tiny_checkpoint: Checkpoint, sequences):
    """bf16 keeps 8 bits: a token's log-prob is good to about 0.05, and errors of 20 tokens partly cancel."""
    prompts, responses = sequences
    scores = score(tiny_checkpoint, prompts, responses, 200, "policy")
    model = tiny_checkpoint.load_model(torch.bfloat16).to(CPU)
    for value, prompt, response in zip(scores, prompts, responses, strict=True):
        expected = sum(naive_token_log_probs(model, prompt, response))
        assert value == pytest.approx(expected, abs=0.05 * len(response))
