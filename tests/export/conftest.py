"""A tiny Llama as SmolLM2 is one: grouped queries, tied embeddings, a byte-level BPE tokenizer, ChatML."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from selfie.models.checkpoint import Checkpoint

SMOLLM_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEXT = Path(__file__).parents[2] / "data/01_raw/prompts.jsonl"


@pytest.fixture(scope="session")
def bpe_tokenizer() -> PreTrainedTokenizerFast:
    """400 tokens, trained on the shipped prompts; splits digits as SmolLM2's does."""
    bpe = Tokenizer(BPE())
    digits, letters = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([digits, letters])
    bpe.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    bpe.train([str(TEXT)], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        pad_token="<|im_end|>",
        chat_template=SMOLLM_TEMPLATE,
    )


@pytest.fixture(scope="session")
def smollm(make_checkpoint: Callable[..., Checkpoint], bpe_tokenizer: PreTrainedTokenizerFast) -> Checkpoint:
    """Random weights."""
    shape = {"hidden_size": 64, "num_key_value_heads": 2, "tie_word_embeddings": True}
    return make_checkpoint(bpe_tokenizer, **shape)
