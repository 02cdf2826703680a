"""Shared prompts: the layout by hand, and responses that are scored as if they stood alone."""

import random

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaForCausalLM, PreTrainedModel

from selfie.models.checkpoint import Checkpoint
from selfie.scoring.attention import share_prompts
from selfie.scoring.log_probs import response_log_probs
from selfie.scoring.packed_rows import Row, lay_out, stack

CPU = torch.device("cpu")
IDS = st.lists(st.integers(0, 76), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def fp32_model(fp32_checkpoint: Checkpoint) -> LlamaForCausalLM:
    model = fp32_checkpoint.load_model(torch.float32).to(CPU)
    assert share_prompts(model, longest=24)
    return model


def test_rows_end_to_end_by_hand():
    """Prompt 7 8 with responses 9 and 10 11, then 5 | 6: positions go on after the prompt, twice."""
    rows = stack([Row([7, 8], [[9], [10, 11]], [0, 1]), Row([5], [[6]], [2])], True, CPU)
    assert rows.input_ids.tolist() == [[7, 8, 9, 10, 11, 5, 6]]
    assert rows.position_ids is not None
    assert rows.paths is not None
    assert rows.place is not None
    assert rows.position_ids.tolist() == [[0, 1, 2, 2, 3, 0, 1]]
    assert [group.tolist() for group in rows.paths] == [[[0, 1, 3, 4], [0, 1, 2, 0]], [[5, 6]]]
    assert rows.place.tolist() == [4, 5, 6, 2, 3, 8, 9]
    assert rows.tokens.tolist() == [9, 10, 11, 6]
    assert rows.predicts.tolist() == [1, 1, 3, 5]  # the prompt's last token, twice; then 10; then 5 in the second row
    assert rows.response.tolist() == [0, 1, 1, 2]
    assert rows.responses == 3


def test_plain_rows_by_hand():
    """Rows 1 2 | 0 and 4 | 5 6 7, padded right, where nothing before it can see it: without paths."""
    rows = stack(lay_out([[1, 2], [4]], [[0], [5, 6, 7]], False), False, CPU)
    assert rows.input_ids.tolist() == [[1, 2, 0, 0], [4, 5, 6, 7]]
    assert rows.paths is None
    assert rows.position_ids is None
    assert rows.predicts.tolist() == [1, 4, 5, 6]
    assert rows.tokens.tolist() == [0, 5, 6, 7]


def test_neighbours_with_the_same_prompt_share_it():
    prompts, responses = [[1, 2], [1, 2], [3], [1, 2]], [[5]] * 4
    assert [row.numbers for row in lay_out(prompts, responses, sharing=True)] == [[0, 1], [2], [3]]
    assert [row.numbers for row in lay_out(prompts, responses, sharing=False)] == [[0], [1], [2], [3]]
    long = lay_out([[1, 2]] * 4, [[5] * n for n in (3, 4, 3, 30)], sharing=True, longest=9)
    assert [row.numbers for row in long] == [[0, 1], [2], [3]]


def test_longer_rows_after_shorter_ones_keep_the_models_window():
    """A window of 8: rows of 6 may share, rows of 18 may not, and are scored as by a model that never shared."""
    torch.manual_seed(0)
    model = transformers.MistralForCausalLM(transformers.MistralConfig(**SHAPE, sliding_window=8)).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    rng = random.Random(0)
    row = Row([rng.randrange(5, 77) for _ in range(9)], [[rng.randrange(5, 77) for _ in range(9)]], [0])
    scores = []
    for longest, shares in ((18, False), (6, True), (18, False)):
        assert share_prompts(model, longest) == shares
        with torch.no_grad():
            scores.append(response_log_probs(model, stack([row], False, CPU))[0].item())
    assert scores[0] == scores[2]
    assert abs(scores[0] - scores[1]) > 0.1  # else the window would not matter


GROUPS = st.lists(st.tuples(IDS, st.lists(IDS, min_size=1, max_size=4)), min_size=1, max_size=4)


@settings(max_examples=25)
@given(GROUPS)
def test_shared_prompts_change_nothing(fp32_model: LlamaForCausalLM, groups):
    """Log-probs, and the hidden states behind them, are those of a row a response (1e-5 a token in fp32)."""
    prompts = [prompt for prompt, responses in groups for _ in responses]
    responses = [response for _, responses in groups for response in responses]
    with torch.no_grad():
        shared, hidden = response_log_probs(fp32_model, stack(lay_out(prompts, responses, True), True, CPU))
        alone, hidden_alone = response_log_probs(fp32_model, stack(lay_out(prompts, responses, False), False, CPU))
    longest = max(map(len, responses))
    torch.testing.assert_close(shared, alone, atol=1e-5 * longest, rtol=1e-5)
    torch.testing.assert_close(hidden, hidden_alone, atol=1e-4, rtol=1e-4)


@settings(max_examples=25)
@given(st.lists(st.integers(5, 76), min_size=1, max_size=12), st.lists(IDS, min_size=2, max_size=4), st.data())
def test_no_response_influences_another(fp32_model: LlamaForCausalLM, prompt, responses, data):
    """Other tokens in one response leave the others' log-probs as they are, to the last bit; its own change."""
    changed = data.draw(st.integers(0, len(responses) - 1))
    others = [list(response) for response in responses]
    others[changed] = [(token + 1) % 77 for token in others[changed]]
    with torch.no_grad():
        before, after = (
            response_log_probs(fp32_model, stack(lay_out([prompt] * len(r), r, True), True, CPU))[0]
            for r in (responses, others)
        )
    equal = (before == after).tolist()
    assert [same for i, same in enumerate(equal) if i != changed] == [True] * (len(responses) - 1)
    assert not equal[changed]


def test_gradients_are_those_of_a_row_a_response(tiny_model: LlamaForCausalLM):
    """Of a weighted sum of six log-probs, in every parameter (fp32)."""
    assert share_prompts(tiny_model, longest=18)
    rng = random.Random(0)
    prompts = [[rng.randrange(5, 77) for _ in range(length)] for length in (6, 6, 3)]
    prompts = [prompts[i] for i in (0, 0, 0, 1, 1, 2)]
    responses = [[rng.randrange(5, 77) for _ in range(rng.randint(1, 12))] for _ in prompts]
    gradients = []
    for sharing in (False, True):
        tiny_model.zero_grad()
        log_probs, _ = response_log_probs(tiny_model, stack(lay_out(prompts, responses, sharing), sharing, CPU))
        (log_probs * torch.linspace(-1, 1, 6)).sum().backward()
        gradients.append({name: p.grad.clone() for name, p in tiny_model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == dict(tiny_model.named_parameters()).keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-4, rtol=1e-4, msg=name)


SHAPE = {
    "vocab_size": 77,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WINDOW = {"sliding_window": 8}
FAMILIES = {
    "Llama": ({}, True),
    "Qwen2": ({}, True),
    "Qwen3": ({"head_dim": 8}, True),
    "Gemma2": ({"head_dim": 8, "sliding_window": 64}, True),
    "Phi3": ({}, True),
    "SmolLM3": ({}, True),
    "Olmo2": ({}, True),
    "GPTNeoX": ({}, True),
    "Granite": ({}, True),
    "Mixtral": ({"num_local_experts": 4}, True),
    "Mistral": ({"sliding_window": 4096}, True),
    "Mistral with a narrow window": (WINDOW, False),
    "Gemma2 with a narrow window": ({"head_dim": 8, **WINDOW}, False),
    "Bloom": ({}, False),
    "RecurrentGemma": ({"lru_width": 32, "head_dim": 8}, False),
    "Mamba2": ({"head_dim": 8, "num_heads": 8, "state_size": 8, "n_groups": 1}, False),
    "FalconH1": ({"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8}, False),
    "Lfm2": ({"layer_types": ["conv", "full_attention"]}, False),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_families_share_only_where_it_is_exact(family: str):
    """Random models in fp32: those that share agree with a row a response; the others are told apart beforehand."""
    changes, shares = FAMILIES[family]
    name = family.split(maxsplit=1)[0]
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**SHAPE, **changes)
    model: PreTrainedModel = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    rng = random.Random(0)
    first, second = ([rng.randrange(5, 77) for _ in range(length)] for length in (9, 6))
    prompts = [first, first, first, second]
    responses = [[rng.randrange(5, 77) for _ in range(length)] for length in (11, 4, 7, 5)]
    sharing = share_prompts(model, longest=20)
    assert sharing == shares
    rows = lay_out(prompts, responses, sharing)
    assert len(rows) == (2 if shares else 4)
    with torch.no_grad():
        together, _ = response_log_probs(model, stack(rows, sharing, CPU))
        alone = [
            response_log_probs(model, stack([Row(p, [r], [0])], False, CPU))[0]
            for p, r in zip(prompts, responses, strict=True)
        ]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-3, rtol=1e-4)
