"""Sums, money, disk, and what is said where something does not fit."""

from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from configuration import parameters
from planning_shapes import DEVICE, TINY, of_memory
from selfie.planning.hardware import Hardware, Overheads, find_gpu
from selfie.planning.memory import USABLE, training_memory
from selfie.planning.plan import Plan, make_plan
from selfie.planning.steps import DataSizes, Setting, choose_arithmetics
from selfie.planning.tables import amount, duration, lines, memory_table, stage_table

SIZES = DataSizes(seed_pairs=56, evaluation_prompts=100, heldout_pairs=0, prompt=40, response=80)
NODES = [
    ("train_policy", "seeding", "training"),
    ("generate_responses", "iteration_1", "generation"),
    ("measure_precision", "iteration_1", "judging"),
    ("score_responses", "iteration_1", "judging"),
    ("train_policy", "iteration_1", "training"),
    ("annotate_outputs", "iteration_1", "evaluation"),
    ("write_report", None, "reporting"),
]


def plan(
    hardware: Hardware = DEVICE,
    devices: int = 1,
    price: float | None = None,
    in_shards: bool = False,
    **runtime: Any,
) -> Plan:
    read = parameters(**runtime)
    setting = Setting(read, SIZES, "transformers", choose_arithmetics(read, TINY, hardware))
    return make_plan(NODES, setting, "tiny", TINY, hardware, devices, price, in_shards=in_shards)


def test_stages_add_up():
    made = plan(replace(DEVICE, overheads=Overheads(start=5)))
    rows = made.stages()
    assert [(row["namespace"], row["stage"]) for row in rows] == [
        ("seeding", "training"),
        ("iteration_1", "generation"),
        ("iteration_1", "judging"),
        ("iteration_1", "training"),
        ("iteration_1", "evaluation"),
        ("", "reporting"),
    ]
    assert made.seconds == pytest.approx(5 + sum(row["seconds"] for row in rows))
    together = made.summed(step for step in made.steps if step.namespace == "iteration_1")
    for key in ("tokens", "flops", "seconds"):
        assert together[key] == pytest.approx(sum(row[key] for row in rows if row["namespace"] == "iteration_1"))
    assert made.as_json()["total"]["seconds"] == made.seconds


def test_all_devices_are_paid_for_all_of_the_time():
    made = plan(devices=4, price=3.6)
    assert made.as_json()["total"]["dollars"] == pytest.approx(made.seconds * 4 * 0.001)
    assert plan().as_json()["total"]["dollars"] is None


def test_the_bottleneck_is_over_all_iterations():
    assert plan(replace(DEVICE, speed={**DEVICE.speed, "training": 1.0})).bottleneck() == ("training", "arithmetic")
    reading = {**DEVICE.read, "transformers": 1.0}
    assert plan(replace(DEVICE, read=reading)).bottleneck() == ("generation", "memory bandwidth")
    assert plan(replace(DEVICE, link=0.001), devices=2).bottleneck() == ("training", "network")


def test_an_endpoints_price_by_hand():
    """200 questions; the prompts' 4 dollars and the answers' 8 a million tokens."""
    endpoint = {"model": "judge", "price": {"prompt": 4.0, "completion": 8.0}}
    made = plan(evaluation={"annotator": "openai_api"}, annotation={"endpoint": endpoint})
    (asked,) = made.works("asking")
    assert made.judge_dollars == pytest.approx(200 * (asked.prompt * 4 + 8) / 1e6)
    assert any(f"200 questions, ${made.judge_dollars:.2f}" in line for line in lines(made))
    unpriced = plan(evaluation={"annotator": "openai_api"}, annotation={"endpoint": {"model": "judge"}})
    assert unpriced.judge_dollars is None
    assert "Judge: 200 questions, its price is not configured." in lines(unpriced)


def test_disk_by_hand():
    """Two policies and two checkpoints; 384 responses of 40 + 80 tokens, twice, and 96 pairs of two."""
    row = 16 * 40 + 12 * 80 + 100
    assert plan().disk == 2 * 4000 + 2 * 12_000 + (2 * 384 + 2 * 96) * row


def test_what_fits_is_not_complained_of():
    assert plan(of_memory(1e9)).problems == []


def test_a_training_that_does_not_fit_says_what_would():
    """Ever smaller devices: checkpointing, then adapters with it, then shards, then nothing."""
    largest = plan().works("training")[0]
    whole = training_memory(largest, TINY, DEVICE)
    problem = plan(of_memory(0.99 * whole.total / 0.9)).problems[0]
    assert problem.startswith("training does not fit")
    assert "What would: all weights, checkpointing (docs/devices.md)" in problem
    small = replace(largest, checkpointing=True, small_moments=True)
    checkpointed = training_memory(small, TINY, DEVICE)
    adapted = {name: {"lora_rank": 2} for name in ("seeding", "training")}
    problem = plan(of_memory(0.99 * checkpointed.total / 0.9), **adapted).problems[0]
    assert problem.endswith("What would: LoRA of rank 2, checkpointing (docs/devices.md)")
    halved = training_memory(replace(largest, checkpointing=True), TINY, DEVICE, shards=2)
    assert "as configured, FSDP over 2 devices" in plan(of_memory(halved.total / 0.89)).problems[0]
    assert "Nothing would" in plan(of_memory(30_000)).problems[0]


def test_devices_that_a_batch_leaves_idle_are_named():
    (problem,) = plan(of_memory(1e9), devices=24).problems
    assert problem == "training: 16 pairs a step can be shared out evenly to 8 of 24 devices; raise batch_size for more"


def test_a_model_that_has_to_be_spread_is_named():
    problems = "\n".join(plan(of_memory(2500), devices=1).problems)
    assert (
        "scoring: the weights have to lie spread over 4 devices (not built), and there are 1: it does not fit"
        in problems
    )


def test_the_tables_show_it_all():
    console = Console(width=120, record=True, file=StringIO())
    made = plan(find_gpu("L4"), devices=2, price=0.5)
    for table in (stage_table(made), memory_table(made)):
        console.print(table)
    text = console.export_text()
    assert all(word in text for word in ("tiny", "2 × l4", "iteration_1", "together", "FSDP over 2"))
    assert [len(line) for line in text.splitlines() if len(line) > 120] == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (90, "90 s"),
        (150, "2.5 min"),
        (9000, "2.5 h"),
        (4e5, "4.6 days"),
        (1e8, "3.2 years"),
    ],
)
def test_durations(seconds: float, text: str):
    assert duration(seconds) == text


def test_amounts():
    assert [amount(value) for value in (0, 12, 1234, 7.24e9, 4.8e18, 2e24)] == [
        "–",
        "12.0",
        "1.2 k",
        "7.2 G",
        "4.8 E",
        "2.0 Y",
    ]


def test_a_training_that_is_configured_in_shards_is_counted_so():
    """Two devices hold what one does not; without the file the plan says what would, and with it nothing is wrong."""
    largest = plan().works("training")[0]
    whole, halved = (training_memory(largest, TINY, DEVICE, shards=shards).total for shards in (1, 2))
    two = of_memory((whole + halved) / 2 / USABLE)
    assert any("training does not fit" in problem for problem in plan(two, devices=2).problems)
    assert not any("training does not fit" in problem for problem in plan(two, devices=2, in_shards=True).problems)
