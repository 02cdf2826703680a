"""The trainer against TRL's own, the detector against the formula, and what a training leaves."""

import gc
import math
import random
from collections import deque
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from datasets import Dataset
from transformers import LlamaForCausalLM, PreTrainedModel
from trl import DPOConfig, DPOTrainer

from selfie.config.training import TrainingParameters
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import store_linear_in_bf16
from selfie.scoring.log_probs import response_log_probs
from selfie.scoring.packed_rows import lay_out, stack
from selfie.training import train as training
from selfie.training.train import train
from selfie.training.trainer import NoiseAwareTrainer

BETA = 0.1
PLAIN = TrainingParameters(
    loss="noise_aware",
    learning_rate=1e-3,
    epochs=1,
    batch_size=4,
    batch_tokens=4096,
    learning_rate_warmup=0.1,
    weight_decay=0.0,
    max_grad_norm=1.0,
    label_smoothing=0.0,
    noise_percentile=10.0,
    extrapolation=[0.5],
    detector_window=64,
    detector_warmup=0.2,
    checkpoint_steps=100,
)

LOG_2 = math.log(2)


def make_pairs(count: int, seed: int = 0) -> Dataset:
    """Random token ids of unequal lengths."""
    rng = random.Random(seed)

    def ids(shortest: int, longest: int) -> list[int]:
        return [rng.randrange(5, 77) for _ in range(rng.randint(shortest, longest))]

    pairs: dict[str, list] = {"pair": list(range(count)), "iteration": [1] * count}
    pairs["prompt_ids"] = [ids(2, 8) for _ in range(count)]
    for side in ("chosen", "rejected"):
        pairs[f"{side}_ids"] = [[*ids(1, 12), 1] for _ in range(count)]
    return Dataset.from_dict(pairs)


def other_model(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """Of the same shape: as the reference it spreads the margins by about β·20 without any training."""
    torch.manual_seed(1)
    return LlamaForCausalLM(model.config).eval()


def config(folder: Path, **changes: Any) -> DPOConfig:
    """fp32 on the CPU, where 1e-5 means something."""
    settings = {
        "output_dir": str(folder),
        "beta": BETA,
        "learning_rate": 1e-3,
        "num_train_epochs": 1,
        "per_device_train_batch_size": 4,
        "bf16": False,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "gradient_checkpointing": False,
        "max_length": None,
        "remove_unused_columns": False,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "seed": 3,
    }
    return DPOConfig(**settings | changes)


class StockTrainer(DPOTrainer):
    """TRL's trainer and loss, on our token ids."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _compute_loss(self, *args: Any) -> torch.Tensor:
        loss = super()._compute_loss(*args)
        self.losses = [*getattr(self, "losses", []), loss.item()]
        return loss


def copy_of(model: LlamaForCausalLM) -> LlamaForCausalLM:
    twin = LlamaForCausalLM(model.config)
    twin.load_state_dict(model.state_dict())
    return twin.eval()


def run(model, reference, pairs, args, tokenizer, extrapolation=0.0, **changes) -> NoiseAwareTrainer:
    """``reference`` None: the model as it is now."""
    reference = reference or copy_of(model)
    parameters = PLAIN.model_copy(update=changes)
    trainer = NoiseAwareTrainer(model, reference, pairs, args, parameters, extrapolation, processing_class=tokenizer)
    trainer.train()
    return trainer


def by_step(log: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    return {step: list(entries) for step, entries in groupby(log, key=lambda entry: entry["step"])}


def losses_as_trls(
    model, pairs, args, stock_args, tokenizer, tolerance=1e-5, **changes
) -> tuple[list[float], LlamaForCausalLM]:
    """Trains the model with our trainer and a copy with TRL's; every batch's loss, which are equal, and the copy."""
    theirs, reference = copy_of(model), copy_of(model)
    ours = run(model, None, pairs, args, tokenizer, **changes)
    rows = pairs.select_columns(["prompt_ids", "chosen_ids", "rejected_ids"])
    stock = StockTrainer(theirs, reference, stock_args, train_dataset=rows, processing_class=tokenizer)
    stock.train()
    losses = [np.mean([entry["loss"] for entry in entries]) for entries in by_step(ours.pair_log).values()]
    assert losses == pytest.approx(stock.losses, abs=tolerance)
    return losses, theirs


def test_without_refinement_it_is_trls_dpo(tiny_model: LlamaForCausalLM, tokenizer, tmp_path: Path):
    """Two epochs of six batches: the losses of every batch, and the weights at the end, equal TRL's."""
    args, stock_args = (config(tmp_path, num_train_epochs=2) for _ in range(2))
    losses, theirs = losses_as_trls(tiny_model, make_pairs(22), args, stock_args, tokenizer)
    assert len(losses) == 12
    assert max(losses) - min(losses) > 0.01  # else they would agree by standing still
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(tiny_model.get_parameter(name), parameter, atol=1e-5, rtol=1e-4, msg=name)


def test_the_chosen_nll_is_trls_sft_loss(tiny_model: LlamaForCausalLM, tokenizer, tmp_path: Path):
    """Three steps on one batch of all pairs, where both divide by the same number of chosen tokens."""
    settings = {"num_train_epochs": 3, "per_device_train_batch_size": 8}
    both = config(tmp_path, **settings, loss_type=["sigmoid", "sft"])
    both.loss_weights = [1.0, 0.5]
    ours = config(tmp_path, **settings)
    losses, _ = losses_as_trls(tiny_model, make_pairs(8), ours, both, tokenizer, nll_weight=0.5)
    assert len(losses) == 3
    assert min(losses) > 1  # nats: the margin's part alone starts at log 2


def test_weights_scale_the_preference_loss(tiny_model: LlamaForCausalLM, tokenizer, tmp_path: Path):
    """In the first step every margin is zero: a pair's loss is its weight times log 2."""
    pairs = make_pairs(4).add_column("weight", [0.0, 0.5, 1.0, 2.5])
    log = run(tiny_model, None, pairs, config(tmp_path), tokenizer).pair_log
    losses = {entry["pair"]: entry["loss"] for entry in log}
    assert [losses[pair] for pair in range(4)] == pytest.approx([0, 0.5 * LOG_2, LOG_2, 2.5 * LOG_2], abs=1e-5)


def test_gradient_accumulation_is_exact(tiny_model: LlamaForCausalLM, tokenizer, tmp_path: Path):
    """One SGD step on 6 pairs moves every weight alike, in one pass, in passes of 60 tokens, and in one a pair.

    SGD, because Adam's first step hides a wrong scale; a mean of the micro-batches' means would weigh their pairs
    differently. A row a response (no prompt is shared) moves them so too, and so do two rounds of 4 and 2 pairs.
    """
    pairs, start, reference = make_pairs(6), copy_of(tiny_model), other_model(tiny_model)
    models, logs = [], []
    for batch_tokens, sharing, round_of in (
        (4096, True, 6),
        (60, True, 6),
        (1, True, 6),
        (60, False, 6),
        (60, True, 4),
    ):
        model = copy_of(start)
        model.config._attn_implementation = "sdpa" if sharing else "eager"
        args = config(
            tmp_path,
            per_device_train_batch_size=round_of,
            gradient_accumulation_steps=-(-6 // round_of),
            optim="sgd",
            learning_rate=1.0,
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
        )
        passes = count_calls(model.base_model)
        reference.config._attn_implementation = model.config._attn_implementation
        trainer = run(model, reference, pairs, args, tokenizer, batch_tokens=batch_tokens)
        assert trainer.state.global_step == 1
        assert (trainer.sharing > 0) == sharing
        assert len(passes) == {4096: 1, 1: 6}.get(batch_tokens, len(passes))
        assert batch_tokens != 60 or 1 < len(passes) < 6
        models.append(model)
        logs.append(trainer.pair_log)
    for other, log in zip(models[1:], logs[1:], strict=True):
        for name, parameter in models[0].named_parameters():
            torch.testing.assert_close(other.get_parameter(name), parameter, atol=1e-5, rtol=1e-5, msg=name)
        assert [entry["pair"] for entry in log] == [entry["pair"] for entry in logs[0]]
        assert [entry["loss"] for entry in log] == pytest.approx([entry["loss"] for entry in logs[0]], abs=1e-5)
    assert (models[0].lm_head.weight - start.lm_head.weight).abs().max() > 0.01


def count_calls(module: torch.nn.Module) -> list[None]:
    """Grows by one with every forward pass."""
    calls: list[None] = []
    module.register_forward_hook(lambda *_: calls.append(None))
    return calls


@pytest.fixture(scope="module")
def noise_aware_log(tiny_checkpoint: Checkpoint, tokenizer, tmp_path_factory) -> list[dict[str, Any]]:
    """The log of 25 steps on 200 pairs with λ = 0 and a learning rate at which nothing moves."""
    model = LlamaForCausalLM.from_pretrained(tiny_checkpoint.source, dtype=torch.float32)
    args = config(tmp_path_factory.mktemp("run"), per_device_train_batch_size=8, learning_rate=1e-6)
    return run(model, other_model(model), make_pairs(200), args, tokenizer, label_smoothing=0.1).pair_log


def test_every_pair_is_logged_once(noise_aware_log: list[dict[str, Any]]):
    assert sorted(entry["pair"] for entry in noise_aware_log) == list(range(200))
    assert [len(entries) for entries in by_step(noise_aware_log).values()] == [8] * 25


def test_flags_are_the_lowest_of_the_window(noise_aware_log: list[dict[str, Any]]):
    """Replayed with NumPy: the first 10% of the steps are not observed, the first 20% trusted, then K = 10% of 64.

    τ is that of the steps before. 25 steps: none of 0–2 is observed (2.5 would be the border), 3 and 4 fill the
    window, 5 is the first to flag.
    """
    window: deque[float] = deque(maxlen=64)
    for step, entries in by_step(noise_aware_log).items():
        margins = [entry["detector_margin"] for entry in entries]
        flags = [entry["flagged"] for entry in entries]
        assert all(entry["trusted"] == (step < 5) for entry in entries)
        if step < 3:
            assert margins == [None] * 8
            assert not any(flags)
            continue
        threshold = np.percentile(window, 10, method="weibull") if step >= 5 else -np.inf
        assert flags == [margin < threshold for margin in margins]
        window.extend(margins)
    share = np.mean([entry["flagged"] for entry in noise_aware_log if not entry["trusted"]])
    assert 0.06 < share < 0.16


def test_flagged_pairs_pay_for_alpha(noise_aware_log: list[dict[str, Any]]):
    """−(1 − α)·ln σ(m) − α·ln σ(−m) for flagged pairs, −ln σ(m) for the others."""
    for entry in noise_aware_log:
        margin, smoothing = entry["margin"], 0.1 * entry["flagged"]
        expected = (1 - smoothing) * np.logaddexp(0, -margin) + smoothing * np.logaddexp(0, margin)
        assert entry["loss"] == pytest.approx(expected, rel=1e-5)


def test_without_extrapolation_the_detector_sees_the_policy(noise_aware_log: list[dict[str, Any]]):
    seen = [entry for entry in noise_aware_log if entry["detector_margin"] is not None]
    assert len(seen) == 200 - 3 * 8
    assert [e["detector_margin"] for e in seen] == pytest.approx([e["margin"] for e in seen], abs=1e-5)


def naive_log_ratio(
    policy: PreTrainedModel, reference: PreTrainedModel, row: dict, side: str, extrapolation: float
) -> float:
    """Summed log-prob under (1 + λ)·h_θ − λ·h_ref minus that under the reference, from both models' full logits."""
    response = row[f"{side}_ids"]
    input_ids = torch.tensor([row["prompt_ids"] + response])
    with torch.no_grad():
        ours, theirs = policy(input_ids=input_ids).logits, reference(input_ids=input_ids).logits
        both = torch.cat([(1 + extrapolation) * ours - extrapolation * theirs, theirs])
    predictions = torch.log_softmax(both[:, -len(response) - 1 : -1], dim=-1)
    sums = predictions[:, torch.arange(len(response)), response].sum(dim=1)
    return (sums[0] - sums[1]).item()


def test_detector_margin_by_the_formula(tiny_model: LlamaForCausalLM, tokenizer, tmp_path: Path):
    """m̃ of every pair with λ = 0.5, in a first and only step, so that θ is still where it started."""
    pairs, reference = make_pairs(12), copy_of(tiny_model)
    torch.manual_seed(1)
    for parameter in tiny_model.parameters():  # a policy that has moved away from its reference
        parameter.data += 0.02 * torch.randn_like(parameter)
    policy, frozen = copy_of(tiny_model), copy_of(reference)
    args = config(tmp_path, per_device_train_batch_size=12)
    trainer = run(tiny_model, reference, pairs, args, tokenizer, 0.5, label_smoothing=0.1, detector_warmup=0.0)
    for entry in trainer.pair_log:
        row = pairs[entry["pair"]]
        chosen, rejected = (naive_log_ratio(policy, frozen, row, side, 0.5) for side in ("chosen", "rejected"))
        assert entry["detector_margin"] == pytest.approx(BETA * (chosen - rejected), abs=1e-5)
        assert abs(entry["detector_margin"] - entry["margin"]) > 1e-3


def test_a_training_changes_every_parameter(tiny_checkpoint: Checkpoint, tiny_model: LlamaForCausalLM, tmp_path: Path):
    """The whole of it, as the pipeline runs it: SR and DND on, micro-batches, two epochs."""
    pairs = make_pairs(10)
    parameters = PLAIN.model_copy(update={"label_smoothing": 0.1, "epochs": 2, "batch_tokens": 64})
    policy, log = train(tiny_checkpoint, pairs, parameters, BETA, iteration=1, seed=0, workspace=tmp_path)
    trained = safetensors.torch.load_file(Path(policy.source) / "model.safetensors")
    start = safetensors.torch.load_file(Path(tiny_checkpoint.source) / "model.safetensors")
    assert trained.keys() == start.keys()
    for name, weight in trained.items():
        assert weight.dtype == torch.float32, name
        assert weight.isfinite().all(), name
        assert not torch.equal(weight, start[name]), name
    assert sorted(entry["pair"] for entry in log) == sorted([*range(10)] * 2)
    assert {entry["step"] for entry in log} == set(range(6))  # 4 + 4 + 2 pairs, twice


def test_nothing_of_a_training_is_kept_while_models_are_loaded_again(
    tiny_checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Gradients, optimiser and reference would stand beside what bf16 makes of the policy: the run's highest peak."""
    there = [_trainers()]

    def compare(pairs: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
        assert all(before.shape == after.shape and not torch.equal(before, after) for before, after in pairs)
        there.append(_trainers())

    monkeypatch.setattr(training, "report_cast", compare)
    train(tiny_checkpoint, make_pairs(8), PLAIN, BETA, iteration=1, seed=0, workspace=tmp_path, precision="mixed")
    assert there[1:] == there[:1]


def _trainers() -> int:
    gc.collect()
    return sum(isinstance(found, NoiseAwareTrainer) for found in gc.get_objects())


def test_the_new_checkpoint_is_whole_and_safe(
    tiny_checkpoint: Checkpoint, tiny_model: LlamaForCausalLM, tmp_path: Path
):
    """It loads as the old one did, with the tokenizer, and holds no pickles."""
    policy, _ = train(tiny_checkpoint, make_pairs(4), PLAIN, BETA, iteration=1, seed=0, workspace=tmp_path)
    files = {file.name for file in Path(policy.source).iterdir()}
    assert "model.safetensors" in files
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pth", ".pkl", ".pickle"))]
    assert policy.load_tokenizer().chat_template == tiny_checkpoint.load_tokenizer().chat_template
    assert policy.load_model(torch.float32).num_parameters() == tiny_model.num_parameters()


@pytest.mark.parametrize(
    ("changes", "detector_is_policy"),
    [({"extrapolation": [0.5, 0.0]}, True), ({"extrapolation": [0.0, 0.5]}, False), ({"extrapolation": [0.5]}, False)],
)
def test_extrapolation_of_the_iteration(
    tiny_checkpoint: Checkpoint, tmp_path: Path, changes: dict[str, Any], detector_is_policy: bool
):
    """In iteration 2: λ is the second of the list, or the last there is. With λ = 0 m̃ is m."""
    parameters = PLAIN.model_copy(update={"label_smoothing": 0.1, "detector_warmup": 0.0, **changes})
    _, log = train(tiny_checkpoint, make_pairs(12), parameters, BETA, iteration=2, seed=0, workspace=tmp_path)
    last = [entry for entry in log if entry["step"] == 2]  # in the first two, the learning rate rises from nothing
    assert len(last) == 4
    assert all((entry["detector_margin"] == entry["margin"]) == detector_is_policy for entry in last)


@pytest.mark.parametrize("precision", ["mixed", "float32"])
@pytest.mark.parametrize("lora_rank", [0, 4])
def test_margins_begin_at_exactly_zero(tiny_checkpoint: Checkpoint, tmp_path: Path, precision: str, lora_rank: int):
    """m and m̃ of the first step: policy and reference have the same weights, so all that could differ is rounding."""
    parameters = PLAIN.model_copy(
        update={
            "label_smoothing": 0.1,
            "detector_warmup": 0.0,
            "lora_rank": lora_rank,
            "batch_size": 8,
            "batch_tokens": 64,
        }
    )
    _, log = train(tiny_checkpoint, make_pairs(24), parameters, BETA, 1, 0, tmp_path, precision)
    first = [entry for entry in log if entry["step"] == 0]
    assert len(first) == 8
    assert [entry["margin"] for entry in first] == [0.0] * 8
    assert [entry["detector_margin"] for entry in first] == pytest.approx([0.0] * 8, abs=1e-6)
    assert any(entry["margin"] for entry in log)


def test_a_frozen_model_in_bf16_computes_the_same_under_autocast(tiny_checkpoint: Checkpoint):
    """To the bit, embeddings tied to the head or not."""
    rows = stack(lay_out([[5, 6, 7]] * 2, [[8, 9, 1], [10, 1]], False), False, torch.device("cpu"))
    for tied in (False, True):
        model = tiny_checkpoint.load_model(torch.float32)
        if tied:
            model.lm_head.weight = model.model.embed_tokens.weight
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            expected, _ = response_log_probs(model, rows)
            store_linear_in_bf16(model)
            measured, _ = response_log_probs(model, rows)
        assert model.model.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16
        assert (model.lm_head.weight.dtype == torch.float32) is tied
        assert torch.equal(measured, expected)
