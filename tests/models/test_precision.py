"""Which arithmetic is chosen, and that equal weights give equal log-probs in each."""

import pytest
import torch

from selfie.models import precision
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import (
    Arithmetic,
    sampling_arithmetic,
    scoring_arithmetic,
    scoring_candidates,
    trains_mixed,
)
from selfie.scoring.log_probs import score

LARGE = Checkpoint("someone/a-model-on-the-hub", "0" * 40)


@pytest.fixture
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine says of itself: a CPU with or without bf16 products, an NVIDIA GPU."""
    kind, bf16 = request.param
    monkeypatch.setattr(precision, "compute_device", lambda: torch.device(kind))
    monkeypatch.setattr(precision, "multiplies_bf16", lambda _: bf16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))


@pytest.mark.parametrize(
    ("device", "candidates", "unmeasured", "sampling", "mixed"),
    [
        (("cpu", False), ["float32"], "float32", "float32", False),
        (("cpu", True), ["bfloat16", "float32"], "float32", "bfloat16", True),
        (("cuda", True), ["bfloat16", "tf32", "float32"], "tf32", "bfloat16", True),
    ],
    indirect=["device"],
)
def test_auto_goes_by_device(device, candidates: list[str], unmeasured: str, sampling: str, mixed: bool):
    assert scoring_candidates("auto", LARGE) == candidates
    assert scoring_arithmetic("auto", LARGE) == unmeasured
    assert sampling_arithmetic("auto", LARGE) == sampling
    assert trains_mixed("auto", LARGE) is mixed


@pytest.mark.parametrize("device", [("cpu", True)], indirect=True)
def test_small_models_are_float32(device, tiny_checkpoint: Checkpoint):
    model = tiny_checkpoint.load_model(torch.float32)
    assert tiny_checkpoint.weights() == sum(parameter.numel() for parameter in model.parameters())
    assert scoring_candidates("auto", tiny_checkpoint) == ["float32"]
    assert sampling_arithmetic("auto", tiny_checkpoint) == "float32"
    assert not trains_mixed("auto", tiny_checkpoint)


@pytest.mark.parametrize("device", [("cpu", False)], indirect=True)
def test_what_is_asked_for_is_taken(device):
    assert scoring_candidates("bfloat16", LARGE) == ["bfloat16"]
    assert scoring_arithmetic("bfloat16", LARGE) == "bfloat16"
    assert sampling_arithmetic("bfloat16", LARGE) == "bfloat16"
    assert trains_mixed("mixed", LARGE)


def test_this_cpu_multiplies_bf16_only_with_instructions_for_it():
    flags = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert precision.multiplies_bf16(torch.device("cpu")) is flags


@pytest.mark.parametrize("arithmetic", list(Arithmetic))
def test_equal_weights_give_equal_log_probs(tiny_checkpoint: Checkpoint, make_checkpoint, tokenizer, arithmetic):
    """Two folders with the same weights: an implicit reward of exactly zero."""
    twin = make_checkpoint(tokenizer)
    prompts, responses = [[5, 6, 7]] * 4, [[8, 9, 1], [10, 1], [11, 12, 13, 14, 1], [15]]
    ours, theirs = (
        score(model, prompts, responses, 16, "", arithmetic=arithmetic) for model in (tiny_checkpoint, twin)
    )
    assert (ours == theirs).all()
    assert ours.std() > 0.1


def test_what_bf16_keeps_of_a_training(caplog: pytest.LogCaptureFixture):
    """Above 1.0 the next bf16 number is 1 + 1/128: a step of 1/128 survives, one of 1/1024 comes to nothing.

    Half of the numbers take each step: ⟨c, d⟩ / ⟨d, d⟩ = 64 / 65, and the noise |c − d| / |d| is 1 / √65.
    """
    before = torch.ones(2, 64)
    after = before + torch.tensor([[1 / 128], [1 / 1024]])
    still = torch.zeros(10)
    with caplog.at_level("INFO"):
        assert precision.report_cast([(before, after), (still, still)]) == 128
    assert "bf16 keeps 98% of what was trained and adds noise of 0.12 times the change" in caplog.text
    caplog.clear()
    precision.report_cast([(before, before + 1 / 1024)])
    assert "keeps 0% of what was trained: set precision.sampling" in caplog.text
