"""A tiny real model, so that whatever can run for real does."""

import os
from collections.abc import Callable
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["DO_NOT_TRACK"] = "1"

import pytest
import torch
from hypothesis import settings
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from selfie.checkpoints import Checkpoint
from selfie.world.language import make_tokenizer

torch.set_num_threads(1)
settings.register_profile("selfie", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("selfie")


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """The synthetic language's: 77 tokens, one a word."""
    return make_tokenizer()


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Checkpoint]:
    """``make_checkpoint(tokenizer, seed=0, **changes)``: a random Llama of width 32, saved with its tokenizer.

    Its weights are large enough for next-token distributions far from uniform.
    """

    def make(tokenizer: PreTrainedTokenizerFast, seed: int = 0, **changes: Any) -> Checkpoint:
        shape = {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 128,
            "initializer_range": 0.2,
        }
        ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape | changes, **ids))
        folder = tmp_path_factory.mktemp("models") / "tiny"
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return Checkpoint(str(folder))

    return make


@pytest.fixture(scope="session")
def tiny_checkpoint(make_checkpoint: Callable[..., Checkpoint], tokenizer: PreTrainedTokenizerFast) -> Checkpoint:
    """A random Llama that speaks the synthetic language."""
    return make_checkpoint(tokenizer)


class Fp32Checkpoint(Checkpoint):
    """Loads in fp32 whatever is asked for: bf16's rounding differs with the shape of the batch."""

    def load_model(self, dtype: torch.dtype) -> PreTrainedModel:
        return super().load_model(torch.float32)


@pytest.fixture(scope="session")
def fp32_checkpoint(tiny_checkpoint: Checkpoint) -> Checkpoint:
    """The tiny checkpoint without bf16's rounding."""
    return Fp32Checkpoint(tiny_checkpoint.source)


@pytest.fixture
def tiny_model(tiny_checkpoint: Checkpoint) -> LlamaForCausalLM:
    """A fresh copy in fp32 on the CPU."""
    return LlamaForCausalLM.from_pretrained(tiny_checkpoint.source, dtype=torch.float32).eval()
