"""Seconds against numbers derived by hand: FLOPs over speed, bytes over bandwidth."""

from dataclasses import replace

import pytest

from planning_shapes import DEVICE, TINY, of_memory
from selfie.planning.cost import ARITHMETIC, NETWORK, OVERHEAD, READING, WAITING, cost_of, step_traffic
from selfie.planning.hardware import Overheads
from selfie.planning.work import Work

SCORING = Work("scoring", 100, 3, 2, "bfloat16", sharing=2)
TRAINING = Work("training", 64, 10, 20, "bfloat16", sharing=2, passes=4, models=2, batch_tokens=100, batch_size=16)
SAMPLING = Work("sampling", 100, 10, 20, "bfloat16", longest=40, batch_tokens=500, engine="transformers")


def test_scoring_is_flops_over_the_speed_of_its_arithmetic():
    assert cost_of(SCORING, TINY, DEVICE).parts[ARITHMETIC] == SCORING.flops(TINY) / 1e6
    in_tf32 = replace(SCORING, arithmetic="tf32")
    assert cost_of(in_tf32, TINY, DEVICE).seconds == pytest.approx(2 * SCORING.flops(TINY) / 1e6)
    assert cost_of(SCORING, TINY, DEVICE, devices=4).seconds == pytest.approx(SCORING.flops(TINY) / 4e6)
    alone = cost_of(replace(SCORING, alone=True), TINY, DEVICE, devices=4)
    assert (alone.seconds, alone.devices) == (pytest.approx(SCORING.flops(TINY) / 1e6), 1)


def test_generate_reads_weights_and_cache_in_every_step():
    """10 rows at once, so 10 rounds of 40 steps; weights are 2,000 bytes, and `generate` copies its cache: three times
    10 rows of 10 + 20 / 2 tokens of 2 layers of 16 numbers of 2 bytes."""
    cost = cost_of(SAMPLING, TINY, DEVICE)
    assert cost.parts[READING] == pytest.approx(10 * 40 * (2000 + 3 * 10 * 20 * 64) / 1e6)
    assert cost.parts[ARITHMETIC] == SAMPLING.flops(TINY) / 1e6


def test_vllm_goes_on_with_the_next_row():
    """88,000 bytes hold 45 rows: 100 rows of 20 tokens take 100·20 / 45 steps."""
    cost = cost_of(replace(SAMPLING, engine="vllm"), TINY, DEVICE)
    assert cost.parts[READING] == pytest.approx(100 * 20 / 45 * (2000 + 45 * 20 * 64) / 1e6)


def test_a_spread_model_leaves_fewer_engines():
    """Two devices hold it: five make two engines."""
    assert cost_of(SAMPLING, TINY, of_memory(2500), devices=5).devices == 4
    assert cost_of(SAMPLING, TINY, of_memory(2500), devices=1).devices == 1


def test_a_batch_is_shared_out_to_devices_that_divide_it():
    assert [cost_of(TRAINING, TINY, DEVICE, devices).devices for devices in (1, 2, 6, 8, 16, 64)] == [
        1,
        2,
        2,
        8,
        16,
        16,
    ]


def test_what_devices_send_by_hand():
    """4,000 bytes of gradients, around a ring twice, half of them on each of two devices. In shards: 2,000 bytes of
    weights for the forward and the backward pass and the reference's forward pass of each of 4 micro-batches (8 pairs
    of 50 tokens in budgets of 100), and gradients after each."""
    assert step_traffic(TRAINING, TINY, 1, sharded=False) == 0
    assert step_traffic(TRAINING, TINY, 2, sharded=False) == 0.5 * 2 * 4000
    assert step_traffic(TRAINING, TINY, 2, sharded=True) == 0.5 * 4 * (3 * 2000 + 4000)
    adapted = replace(TRAINING, lora_rank=3, models=1)
    assert step_traffic(adapted, TINY, 2, sharded=False) == 0.5 * 2 * 4 * 360


def test_the_network_counts_where_it_is_slower_than_computing():
    """Two steps; between machines, beyond eight devices, a tenth of the bandwidth."""
    assert cost_of(TRAINING, TINY, DEVICE, 2).parts.keys() == {ARITHMETIC, OVERHEAD}
    slow = replace(DEVICE, network=10.0)
    cost = cost_of(TRAINING, TINY, slow, 16)
    assert cost.parts[NETWORK] == pytest.approx(2 * step_traffic(TRAINING, TINY, 16, sharded=False) / 10)
    assert ARITHMETIC not in cost.parts


def test_an_endpoint_answers_at_its_pace():
    assert cost_of(Work("asking", 30, 100, 1, pace=0.5), TINY, DEVICE).parts[WAITING] == 15


def test_overheads_are_of_steps_models_rows_and_passes():
    extra = Overheads(
        start=100,
        step=1,
        load=10,
        engine=1000,
        sampled=0.1,
        scored=0.2,
        trained=0.3,
        optimizer_step=3,
        pass_of_layer=0.01,
        disk=1e3,
    )
    device = replace(DEVICE, overheads=extra)
    assert cost_of(None, TINY, device).seconds == 1
    # One model of 2,000 bytes.
    assert cost_of(SCORING, TINY, device).parts[OVERHEAD] == pytest.approx(1 + (10 + 2) + 20)
    # Two models of 4 bytes a weight (mixed) are loaded, one is saved; two steps, 64 rows.
    mixed = replace(TRAINING, arithmetic="mixed")
    assert cost_of(mixed, TINY, device).parts[OVERHEAD] == pytest.approx(1 + 2 * (10 + 4) + 4 + 2 * 3 + 19.2)
    # 400 passes through 2 layers.
    assert cost_of(SAMPLING, TINY, device).parts[OVERHEAD] == pytest.approx(1 + 12 + 10 + 400 * 2 * 0.01)
    vllm = cost_of(replace(SAMPLING, engine="vllm", rows=20, response=4), TINY, device).parts[OVERHEAD]
    assert vllm == pytest.approx(1 + 12 + 1000 + 2 + 4 * 2 * 0.001)
