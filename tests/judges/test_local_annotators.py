"""Judges on this machine, with tiny real models: their verdicts are what their logits say."""

import json
import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedModel,
)

from faults import in_a_child
from judge_models import JUDGES, WORDS, save, save_judge, tokenizer
from selfie.config.parameters import JudgePrompts
from selfie.errors import ModelError
from selfie.evaluation.annotate import AnnotationOptions, annotate
from selfie.generation.sampling import render
from selfie.judges import prompted_policy as verdict
from selfie.judges import reward_model as rewards
from selfie.judges.comparisons import Comparison
from selfie.judges.local_annotators import LocalAnnotator, RewardModelAnnotator
from selfie.judges.openai_api import pairwise_messages
from selfie.judges.reward_model import open_reward_model
from selfie.models.chat_template import as_text
from selfie.models.checkpoint import Checkpoint
from selfie.storage import commit
from selfie.storage.annotation_cache import COMMIT_EVERY, AnnotationCache


class Fp32Checkpoint(Checkpoint):
    """Without bf16's rounding, which differs with the shape of the batch."""

    def load_model(self, dtype: torch.dtype) -> PreTrainedModel:
        return super().load_model(torch.float32)


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("judge")
    save(LlamaForCausalLM, folder)
    return Fp32Checkpoint(str(folder))


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("reward")
    save(LlamaForSequenceClassification, folder, num_labels=1)
    return Checkpoint(str(folder))


ASKED = [
    Comparison("a", "b c", "d"),
    Comparison("a", "d", "b c"),
    Comparison("c", "a a a", "b"),
    Comparison("c", "", "b"),
]


def test_the_preference_is_the_models_own(chat_model: Checkpoint, prompts: JudgePrompts) -> None:
    """1 + P("2") / (P("1") + P("2")), from a forward pass over each question as it is shown."""
    annotator = LocalAnnotator(chat_model, prompts.pairwise)
    found = {position: verdict.value for position, verdict in annotator.judge(ASKED)}
    model, ids = LlamaForCausalLM.from_pretrained(chat_model.source).eval(), tokenizer()
    for position, comparison in enumerate(ASKED):
        text = "\n\n".join(message["content"] for message in pairwise_messages(prompts.pairwise, comparison))
        rows = torch.tensor([render(ids, [{"role": "user", "content": text}])])
        with torch.inference_mode():
            logits = model(rows).logits[0, -1, [WORDS.index("1"), WORDS.index("2")]]
        assert found[position] == pytest.approx(1 + logits.softmax(0)[1].item(), abs=1e-4)
    assert len({round(value or 0, 6) for value in found.values()}) == len(ASKED)


def test_annotations_average_both_orders_and_are_kept(
    chat_model: Checkpoint, prompts: JudgePrompts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = [{"instruction": "a", "output": "b c", "generator": "m"}]
    theirs = [{"instruction": "a", "output": "d", "generator": "base"}]
    annotator = LocalAnnotator(chat_model, prompts.pairwise)
    (row,) = annotate(ours, theirs, annotator, AnnotationOptions("both"), AnnotationCache(tmp_path))
    by_order = [row["preference_baseline_first"], row["preference_model_first"]]
    assert row["preference"] == pytest.approx(sum(by_order) / 2)
    verdicts = dict(annotator.judge([Comparison("a", "d", "b c"), Comparison("a", "b c", "d")]))
    assert by_order == pytest.approx([verdicts[0].value, 3 - (verdicts[1].value or 0)], abs=1e-4)

    monkeypatch.setattr(Checkpoint, "load_tokenizer", None)  # a second run opens no model
    again = LocalAnnotator(Checkpoint(chat_model.source), prompts.pairwise)
    assert annotate(ours, theirs, again, AnnotationOptions("both"), AnnotationCache(tmp_path)) == [row]


def test_the_higher_reward_wins(reward_model: Checkpoint, tmp_path: Path) -> None:
    """The reward is the classifier's one logit of the whole conversation."""
    answers = ["b c", "d", "a a a", "b c d"]
    ours = [{"instruction": "a", "output": text, "generator": "m"} for text in answers]
    theirs = [{**row, "output": other} for row, other in zip(ours, answers[1:] + answers[:1], strict=True)]
    annotator = RewardModelAnnotator(reward_model)
    rows = annotate(ours, theirs, annotator, cache=AnnotationCache(tmp_path))
    model, ids = LlamaForSequenceClassification.from_pretrained(reward_model.source).eval(), tokenizer()

    def reward(answer: str) -> float:
        conversation = [{"role": "user", "content": "a"}, {"role": "assistant", "content": answer}]
        encoded: Any = ids.apply_chat_template(conversation, return_dict=True, return_tensors="pt")
        with torch.inference_mode():
            return model(encoded["input_ids"]).logits[0, 0].item()

    for row, answer in zip(rows, answers, strict=True):
        assert row["score_2"] == pytest.approx(reward(answer), abs=0.1)  # bf16
        assert row["preference"] == (2.0 if row["score_2"] > row["score_1"] else 1.0)
    assert {row["preference"] for row in rows} == {1.0, 2.0}
    assert "preference_model_first" not in rows[0]
    repeated = annotate(ours, theirs, RewardModelAnnotator(reward_model), cache=AnnotationCache(tmp_path))
    assert repeated == rows


def test_the_reward_is_of_the_whole_conversation(reward_model: Checkpoint) -> None:
    """Of the real turns, not of their text as one; another conversation with the same last turn has another reward."""
    talks = [
        [{"role": role, "content": text} for role, text in zip(("user", "assistant", "user"), turns, strict=True)]
        for turns in ("abc", "dbc")
    ]
    ours = [{"instruction": as_text(t), "messages": t, "output": "b c", "generator": "m"} for t in talks]
    theirs = [{**row, "output": "d"} for row in ours[::-1]]
    rows = annotate(ours, theirs, RewardModelAnnotator(reward_model))
    with open_reward_model(reward_model, 1) as rate:
        expected = rate([(talk, "b c") for talk in talks])
    assert [row["score_2"] for row in rows] == expected
    assert abs(expected[0] - expected[1]) > 0.05
    assert [row["index"] for row in rows] == [1, 0]


def outputs(generator: str, number: int) -> list[dict[str, str]]:
    """Different answers, of many lengths, to as many instructions."""
    rng = random.Random(generator)
    return [
        {"instruction": "a " * n, "output": " ".join(rng.choices("abcd", k=rng.randint(1, 20))), "generator": generator}
        for n in range(number)
    ]


class Counter:
    """Which rows of tokens a judge of this kind is shown, by any process."""

    def __init__(self, kind: str, file: Path, patch: pytest.MonkeyPatch):
        module, name = {"prompted_model": (verdict, "_log_odds"), "reward_model": (rewards, "_rewards")}[kind]
        self.file, forward = file, getattr(module, name)

        def counting(model: PreTrainedModel, rows: list[list[int]], *rest: Any) -> torch.Tensor:
            with self.file.open("a") as log:
                log.writelines(f"{json.dumps(row)}\n" for row in rows)
            return forward(model, rows, *rest)

        patch.setattr(module, name, counting)

    def shown(self) -> list[str]:
        """Since the last time."""
        rows = self.file.read_text().splitlines() if self.file.exists() else []
        self.file.unlink(missing_ok=True)
        return rows


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("kind", JUDGES)
@pytest.mark.parametrize(("moment", "kept"), [("a question", 50), ("a save", 25)])
def test_a_killed_judge_is_not_asked_again(
    kind: str, moment: str, kept: int, prompts: JudgePrompts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL at the 60th question, or inside the save of questions 26 to 50; then the same bytes as without."""
    save_judge(kind, tmp_path / "judge")
    counter = Counter(kind, tmp_path / "shown", monkeypatch)
    # Both orders are asked, or both answers are scored.
    number, rows_each = (40, 1) if kind == "prompted_model" else (80, 2)

    def evaluate(cache: str) -> str:
        checkpoint = Checkpoint(str(tmp_path / "judge"))
        annotator = (
            LocalAnnotator(checkpoint, prompts.pairwise)
            if kind == "prompted_model"
            else RewardModelAnnotator(checkpoint)
        )
        annotations = annotate(
            outputs("m", number), outputs("base", number), annotator, cache=AnnotationCache(tmp_path / cache)
        )
        return json.dumps(annotations)

    def killed() -> None:
        calls = 0
        module, name = (commit, "flush") if moment == "a save" else (AnnotationCache, "put")
        deadly_call = 6 if moment == "a save" else 60
        original = getattr(module, name)

        def deadly(*arguments: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == deadly_call:
                os.kill(os.getpid(), signal.SIGKILL)
            original(*arguments)

        monkeypatch.setattr(module, name, deadly)
        evaluate("killed")

    assert in_a_child(killed) == signal.SIGKILL
    before = counter.shown()
    assert len(before) == (60 if moment == "a question" else 50) * rows_each
    continued = evaluate("killed")
    after = counter.shown()
    assert len(before[: kept * rows_each] + after) == 80 * rows_each
    whole = evaluate("whole")
    assert counter.shown() == before[: kept * rows_each] + after
    assert continued == whole
    assert kept % COMMIT_EVERY == 0


@pytest.mark.parametrize("kind", JUDGES)
def test_another_model_in_the_same_folder_is_another_judge(
    kind: str, prompts: JudgePrompts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the same model in another folder is the same judge: what counts is what the files hold."""
    folder = tmp_path / "judge"
    for seed in (1, 2):
        save_judge(kind, tmp_path / str(seed), seed)
    counter = Counter(kind, tmp_path / "shown", monkeypatch)

    def evaluate(judge: Path = folder) -> tuple[int, list[float]]:
        """How many rows the judge was shown, and what it preferred."""
        checkpoint = Checkpoint(str(judge))
        annotator = (
            LocalAnnotator(checkpoint, prompts.pairwise)
            if kind == "prompted_model"
            else RewardModelAnnotator(checkpoint)
        )
        cache = AnnotationCache(tmp_path / "cache")
        annotations = annotate(outputs("m", 10), outputs("base", 10), annotator, cache=cache)
        return len(counter.shown()), [row["preference"] for row in annotations]

    def swap(file: str, content: bytes) -> None:
        (folder / file).write_bytes(content)

    shutil.copytree(tmp_path / "1", folder)
    first = evaluate()
    assert first[0] == 20
    (folder / "config.json").touch()
    assert evaluate() == evaluate(tmp_path / "1") == (0, first[1])

    sizes = {(tmp_path / seed / "model.safetensors").stat().st_size for seed in "12"}
    assert len(sizes) == 1  # else the size would do
    swap("model.safetensors", (tmp_path / "2/model.safetensors").read_bytes())
    second = evaluate()
    assert second[0] == 20
    assert second[1] != first[1]
    swap("model.safetensors", (tmp_path / "1/model.safetensors").read_bytes())
    assert evaluate() == (0, first[1])

    template = folder / "chat_template.jinja"
    swap(template.name, template.read_bytes() + b"{{ 'or' }}")
    assert evaluate()[0] == 20


def test_a_judge_that_is_not_there_is_named(prompts: JudgePrompts, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no-such-judge: this model folder does not exist"):
        LocalAnnotator(Checkpoint(str(tmp_path / "no-such-judge")), prompts.pairwise)
