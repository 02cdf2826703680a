"""A model that vLLM can run."""

from collections.abc import Callable

import pytest
from transformers import PreTrainedTokenizerFast

from selfie.models.checkpoint import Checkpoint


@pytest.fixture(scope="session")
def vllm_checkpoint(make_checkpoint: Callable[..., Checkpoint], tokenizer: PreTrainedTokenizerFast) -> Checkpoint:
    """A random model whose heads are 32 wide: vLLM's CPU attention takes no narrower ones."""
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    return make_checkpoint(tokenizer, hidden_size=64, intermediate_size=128, initializer_range=0.02, **heads)
