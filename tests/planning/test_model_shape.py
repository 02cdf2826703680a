"""Counts on the meta device against models that are really made; what can't be read."""

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MixtralConfig,
    PreTrainedConfig,
    Qwen3Config,
)

from runs import PROJECT
from selfie.errors import ModelError
from selfie.models.checkpoint import Checkpoint
from selfie.planning.model_shape import model_shape, read_config

SMALL = {"vocab_size": 77, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
CONFIGS = [
    LlamaConfig(**SMALL, num_key_value_heads=2),
    LlamaConfig(**SMALL, tie_word_embeddings=True),
    Qwen3Config(**SMALL, num_key_value_heads=2, head_dim=16),
    Gemma2Config(**SMALL, num_key_value_heads=2, head_dim=16),
    GPT2Config(vocab_size=77, n_embd=32, n_layer=2, n_head=4),
    MixtralConfig(**SMALL, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2),
    MambaConfig(vocab_size=77, hidden_size=32, num_hidden_layers=2),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_the_count_is_that_of_a_model_that_is_made(config: PreTrainedConfig):
    model = AutoModelForCausalLM.from_config(config)
    assert model_shape(config, "it").parameters == sum(weight.numel() for weight in model.parameters())
    assert not any(weight.is_meta for weight in model.parameters())


def test_of_a_checkpoint_by_hand(tiny_checkpoint: Checkpoint):
    """2 layers of four matrices 32 × 32 and three 32 × 64; a vocabulary of 77."""
    shape = model_shape(read_config(tiny_checkpoint.source), "it")
    assert shape.body == 2 * (4 * 32 * 32 + 3 * 32 * 64)
    assert shape.head == 77 * 32
    assert shape.sides == 2 * (4 * (32 + 32) + 3 * (32 + 64))
    assert shape.parameters == shape.body + 2 * shape.head + 5 * 32  # embeddings, head, five norms
    assert (shape.layers, shape.width, shape.attention_width, shape.cache_width) == (2, 32, 32, 2 * 32)


def test_a_token_meets_two_experts_of_four():
    config = MixtralConfig(**SMALL, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2)
    shape = model_shape(config, "it")
    attention, gate, expert = 2 * 32 * 32 + 2 * 32 * 16, 4 * 32, 3 * 32 * 64
    assert shape.body == 2 * (attention + gate + 2 * expert)


@pytest.mark.parametrize(
    ("name", "published"),
    [("smollm2-1.7b", 1_711_376_384), ("mistral-7b", 7_241_732_096), ("llama-3-70b", 70_553_706_496)],
)
def test_well_known_models_have_as_many_weights_as_their_cards_say(name: str, published: int):
    file = PROJECT / f"benchmarks/models/{name}.json"
    assert model_shape(read_config(str(file)), name).parameters == published
    assert torch.get_default_device().type == "cpu"


def test_a_folder_or_its_file_is_the_same(tiny_checkpoint: Checkpoint):
    folder = tiny_checkpoint.source
    assert model_shape(read_config(folder), "a") == model_shape(read_config(f"{folder}/config.json"), "b")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "it is not JSON"),
        ("[]", "names no model_type"),
        ('{"hidden_size": 8}', "names no model_type"),
        ('{"model_type": "nonesuch"}', "its configuration can't be read"),
        ('{"model_type": "llama", "auto_map": {"AutoConfig": "code.Config"}}', "which is never run"),
        ('{"model_type": "llama", "hidden_size": "large"}', "can't be read"),
    ],
)
def test_what_is_no_configuration_is_named(tmp_path: Path, content: str, said: str):
    file = tmp_path / "config.json"
    file.write_text(content)
    with pytest.raises(ModelError, match=said):
        read_config(str(file))


@pytest.mark.parametrize(
    "settings",
    [{"model_type": "t5"}, {**SMALL, "model_type": "llama", "num_hidden_layers": -3, "hidden_size": -8}],
)
def test_what_makes_no_causal_model_is_named(tmp_path: Path, settings: dict):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(settings))
    with pytest.raises(ModelError, match=r"no model can be made of it|can't be read"):
        model_shape(read_config(str(file)), str(file))


def test_a_folder_without_a_configuration_and_a_name_that_is_nothing(tmp_path: Path):
    with pytest.raises(ModelError, match=r"the folder has no config.json"):
        read_config(str(tmp_path))
    with pytest.raises(ModelError, match="name a model of the catalog"):
        read_config("nobody/nothing")
