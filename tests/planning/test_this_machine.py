"""The benchmark's own workload takes, by the plan, as long as the benchmark measured."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from planning_shapes import DEVICE
from runs import PROJECT
from selfie.models.precision import Arithmetic
from selfie.planning import this_machine as module
from selfie.planning.cost import OVERHEAD, cost_of
from selfie.planning.model_shape import ModelShape
from selfie.planning.this_machine import _measurements, as_measured, this_machine
from selfie.runtime.machine import describe_machine

CPU = replace(DEVICE, cpu=True, memory=1e11)


@pytest.fixture
def document() -> dict[str, Any]:
    """The results that are committed."""
    return json.loads((PROJECT / "benchmarks/results/amd-epyc-2-cores-avx512-bf16.json").read_text())


def test_each_stage_takes_what_it_took(document: dict[str, Any]):
    hardware = as_measured(CPU, document, document["machine"]["threads"], "it.json")
    works = _measurements(document)
    assert works.keys() == {"scoring", "training", "vllm", "transformers"}
    for work, seconds in works.values():
        parts = cost_of(work, ModelShape(**document["shape"]), hardware).parts
        assert sum(spent for part, spent in parts.items() if part != OVERHEAD) == pytest.approx(seconds)
    assert "benchmarks/results/it.json" in hardware.source


def test_half_the_threads_are_half_as_fast(document: dict[str, Any]):
    two, one = (as_measured(CPU, document, threads, "") for threads in (2, 1))
    assert one.speed["scoring"] == pytest.approx(two.speed["scoring"] / 2)
    assert one.read["vllm"] == pytest.approx(two.read["vllm"] / 2)


def test_what_was_not_measured_stays_assumed(document: dict[str, Any]):
    del document["measurements"]["training/ours"]
    assert as_measured(CPU, document, 2, "").speed["training"] == CPU.speed["training"]


@pytest.mark.parametrize("bf16", [True, False])
def test_a_processor_with_or_without_bf16_takes_any_benchmark(
    document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bf16: bool
):
    """A plan stands in every run's first line: it must not stop one, whatever was measured and asked for."""
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.01)
    monkeypatch.setattr(module, "multiplies_bf16", lambda _: bf16)
    monkeypatch.setattr(module, "describe_machine", lambda: {"name": "it", "threads": 2})
    (tmp_path / "it.json").write_text(json.dumps(document))
    hardware = this_machine(tmp_path)
    assert hardware.source.startswith("measured")
    assert all(hardware.reach("scoring", arithmetic) > 0 for arithmetic in Arithmetic)
    assert (hardware.reach("scoring", "bfloat16") > hardware.reach("scoring", "float32")) == bf16


def test_processors_of_one_name_differ_by_their_instructions(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    names = set()
    for bf16 in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda there=bf16: there)
        names.add(describe_machine()["name"])
    assert len(names) == 2
    assert any(name.endswith("-cores-avx512-bf16") for name in names)


def test_without_a_benchmark_a_matmul_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.01)
    hardware = this_machine(tmp_path)
    assert hardware.source.startswith("assumed")
    assert hardware.speed["scoring"] > 1e8
    assert hardware.memory > 2**28
