"""Bytes against numbers derived by hand, and against what a trainer really holds."""

from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM

from planning_shapes import DEVICE, TINY, of_memory
from selfie.planning.memory import (
    disk_bytes,
    fewest_shards,
    fitting_devices,
    memory_of,
    row_bytes,
    sampled_at_once,
    strategies,
    trained_weights,
    training_memory,
)
from selfie.planning.model_shape import model_shape
from selfie.planning.work import Work

TRAINING = Work("training", 64, 10, 20, "mixed", sharing=2, models=2, longest=20, batch_tokens=100, batch_size=16)
CHECKPOINTED = replace(TRAINING, checkpointing=True)
SAMPLING = Work("sampling", 100, 10, 20, "bfloat16", longest=40, batch_tokens=500, engine="transformers")


def test_full_fine_tuning_by_hand():
    """Masters 4 a weight and bf16 copies of the matrices, gradients 4, moments 8, a reference whose matrices are bf16.

    A token leaves 2 bytes of the 120 sides and 16 of 8 numbers in 2 layers; 80 of the 100 tokens have logits, whose
    gradient is as large.
    """
    memory = training_memory(TRAINING, TINY, replace(DEVICE, libraries=7))
    assert (memory.weights, memory.gradients, memory.optimizer) == (4000 + 2 * 800, 4000, 8000)
    assert memory.reference == 2 * 800 + 4 * 200
    assert memory.activations == 100 * (2 * 120 + 16 * 8 * 2) + 2 * 4 * 80 * 10
    assert memory.total == 5600 + 4000 + 8000 + 2400 + memory.activations + 7


def test_on_a_cpu_mapped_files_count():
    """The reference's file and the initial one; freed memory is half as much again as a batch needs."""
    device, cpu = (training_memory(TRAINING, TINY, replace(DEVICE, cpu=cpu)) for cpu in (False, True))
    assert cpu.reference == device.reference + 4 * 800 + 4000
    assert cpu.activations == 1.5 * device.activations
    assert (cpu.weights, cpu.gradients, cpu.optimizer) == (device.weights, device.gradients, device.optimizer)


def test_in_float32_without_a_reference():
    memory = training_memory(replace(TRAINING, arithmetic="float32", models=1), TINY, DEVICE)
    assert (memory.weights, memory.reference) == (4000, 0)
    assert memory.activations == 100 * (4 * 120 + 16 * 8 * 2) + 2 * 4 * 80 * 10


def test_adapters_by_hand():
    """Rank 3 beside matrices whose sides add up to 120: 360 weights are trained, 1,000 are frozen in bf16."""
    memory = training_memory(replace(TRAINING, lora_rank=3, models=1), TINY, DEVICE)
    assert (memory.weights, memory.gradients, memory.optimizer) == (2 * 1000 + 4 * 360, 4 * 360, 8 * 360)
    assert memory.reference == 0


def test_what_bitsandbytes_packs_by_hand():
    """800 frozen weights of matrices in 4 bits and 8/64 + 32/16,384 for their scales; moments of 8 bits and 32/256."""
    packed = training_memory(replace(TRAINING, lora_rank=3, models=1, packed=True), TINY, DEVICE)
    assert packed.weights == pytest.approx(800 * 4.126953125 / 8 + 2 * 200 + 4 * 360)
    small = training_memory(replace(TRAINING, small_moments=True), TINY, DEVICE)
    assert small.optimizer == 2 * 920 * (1 + 4 / 256) + 8 * 80  # ten embeddings of 8 numbers stay in 32 bits
    assert replace(small, optimizer=8000) == training_memory(TRAINING, TINY, DEVICE)


def test_checkpointing_keeps_a_layers_input_and_shards_divide():
    """One layer of two at once, and 4 bytes of 8 numbers of each; in shards, twice a layer's 400 weights at once."""
    whole = training_memory(TRAINING, TINY, DEVICE)
    checkpointed = training_memory(CHECKPOINTED, TINY, DEVICE)
    assert checkpointed.activations == 100 * (248 + 4 * 8 * 2) + 2 * 4 * 80 * 10
    assert replace(checkpointed, activations=whole.activations) == whole
    sharded = training_memory(TRAINING, TINY, DEVICE, shards=4)
    assert sharded.weights == 5600 / 4 + 2 * 2 * 400
    assert (sharded.gradients, sharded.optimizer, sharded.reference) == (1000, 2000, 600)
    assert sharded.activations == whole.activations


def test_a_real_trainers_tensors_are_as_many_bytes(tiny_model: LlamaForCausalLM):
    """Weights, gradients and AdamW's moments of a step that is really taken."""
    shape = model_shape(tiny_model.config, "it")
    planned = training_memory(replace(TRAINING, arithmetic="float32"), shape, DEVICE)
    optimizer = torch.optim.AdamW(tiny_model.parameters())
    tiny_model(torch.arange(9)[None], labels=torch.arange(9)[None]).loss.backward()
    optimizer.step()
    held = [value for state in optimizer.state.values() for name, value in state.items() if name != "step"]
    assert planned.weights == sum(weight.nbytes for weight in tiny_model.parameters())
    assert planned.gradients == sum(weight.grad.nbytes for weight in tiny_model.parameters())
    assert planned.optimizer == sum(moment.nbytes for moment in held)


def test_adapters_are_as_many_as_peft_makes(tiny_model: LlamaForCausalLM):
    planned = trained_weights(model_shape(tiny_model.config, "it"), 3)
    adapted = get_peft_model(tiny_model, LoraConfig(r=3, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert planned == sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)


def test_sampling_by_hand():
    """500 tokens hold 10 rows of 10 + 40; a token's keys and values are 2 layers of 16 numbers of 2 bytes."""
    memory = memory_of(SAMPLING, TINY, DEVICE)
    assert sampled_at_once(SAMPLING, TINY, DEVICE, 1, 100) == 10
    assert memory.weights == 2000
    assert memory.cache == 10 * 50 * 64
    assert memory.activations == 10 * 10 * 16


def test_vllm_decodes_what_its_cache_holds():
    """Of 90,000 bytes the weights leave 88,000: 45 rows of 30 tokens of 64 bytes; at most 256 anyhow."""
    work = replace(SAMPLING, engine="vllm", rows=1000)
    assert sampled_at_once(work, TINY, DEVICE, 1, 1000) == 88_000 // (30 * 64)
    assert sampled_at_once(work, TINY, of_memory(1e9), 1, 1000) == 256
    assert sampled_at_once(work, TINY, of_memory(1e9), 1, 20) == 20
    assert memory_of(work, TINY, DEVICE).total <= 90_000 + 45 * 10 * 16


def test_a_model_too_large_for_a_device_is_spread():
    """2,000 bytes of weights, of which a device takes 0.775 of its memory."""
    assert fitting_devices(SAMPLING, TINY, of_memory(2600)) == 1
    assert fitting_devices(SAMPLING, TINY, of_memory(2500)) == 2
    assert fitting_devices(SAMPLING, TINY, of_memory(700)) == 4
    assert memory_of(SAMPLING, TINY, of_memory(700), devices=2).weights == 1000  # there are no more


def test_ways_to_train_and_the_fewest_devices():
    ways = {way.name: way for way in strategies(TRAINING, TINY, DEVICE, 4, 3)}
    assert list(ways) == [
        "all weights",
        "all weights, checkpointing",
        "all weights, FSDP over 4",
        "all weights, FSDP over 4, checkpointing",
        "all weights, 8-bit moments",
        "all weights, 8-bit moments, checkpointing",
        "LoRA of rank 3",
        "LoRA of rank 3, checkpointing",
        "LoRA of rank 3, FSDP over 4",
        "LoRA of rank 3, FSDP over 4, checkpointing",
        "LoRA of rank 3 on 4-bit weights",
        "LoRA of rank 3 on 4-bit weights, checkpointing",
    ]
    assert ways["LoRA of rank 3"].memory.reference == 0
    needed = {shards: training_memory(CHECKPOINTED, TINY, DEVICE, shards).total for shards in (1, 2, 4)}
    assert fewest_shards(TRAINING, TINY, of_memory(needed[2] / 0.89)) == 2
    assert fewest_shards(TRAINING, TINY, of_memory(needed[4] / 0.89)) == 4
    assert fewest_shards(TRAINING, TINY, of_memory(1000)) is None


def test_disk_by_hand():
    assert disk_bytes(TINY, policies=3, lora_rank=0) == 3 * 4000 + 2 * 12_000
    assert disk_bytes(TINY, policies=3, lora_rank=3) == 3 * 4000 + 2 * 12 * 360
    assert row_bytes(10, 20) == pytest.approx(160 + 240 + 100)
