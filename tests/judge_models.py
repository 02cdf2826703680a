"""Judge models for tests."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

from selfie.synthetic.language import CHAT_TEMPLATE

WORDS = ["<pad>", "<eos>", "<unk>", "<user>", "<assistant>", "1", "2", "a", "b", "c", "d", "answer", "better.", "or"]


def tokenizer() -> PreTrainedTokenizerFast:
    model = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    model.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=model, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", chat_template=CHAT_TEMPLATE
    )


def save(model_class: Any, folder: Path, seed: int = 1, **config: Any) -> None:
    torch.manual_seed(seed)
    model_class(
        LlamaConfig(
            vocab_size=len(WORDS),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=512,
            initializer_range=0.3,
            bos_token_id=None,
            eos_token_id=1,
            pad_token_id=0,
            **config,
        )
    ).save_pretrained(folder)
    tokenizer().save_pretrained(folder)


JUDGES = {"prompted_model": LlamaForCausalLM, "reward_model": LlamaForSequenceClassification}


def save_judge(kind: str, folder: Path, seed: int = 1) -> None:
    save(JUDGES[kind], folder, seed, **({"num_labels": 1} if kind == "reward_model" else {}))
