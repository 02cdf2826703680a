"""Judges on this machine, with tiny real models: their verdicts are what their logits say."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from selfie.checkpoints import Checkpoint
from selfie.datasets.annotation_cache import AnnotationCache
from selfie.evaluation.annotate import Asking, annotate
from selfie.evaluation.annotators import Comparison
from selfie.evaluation.checkpoint_annotators import LocalAnnotator, RewardModelAnnotator
from selfie.evaluation.llm_annotator import pairwise_messages
from selfie.generation.sample import render
from selfie.parameters import JudgePrompts
from selfie.world.language import CHAT_TEMPLATE

WORDS = ["<pad>", "<eos>", "<unk>", "<user>", "<assistant>", "1", "2", "a", "b", "c", "d", "answer", "better.", "or"]
BATCH_TOKENS = 1024


def tokenizer() -> PreTrainedTokenizerFast:
    model = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    model.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=model, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", chat_template=CHAT_TEMPLATE
    )


def save(model_class: Any, folder: Path, **config: Any) -> None:
    torch.manual_seed(1)
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
    annotator = LocalAnnotator(chat_model, prompts.pairwise, BATCH_TOKENS)
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
    annotator = LocalAnnotator(chat_model, prompts.pairwise, BATCH_TOKENS)
    (row,) = annotate(ours, theirs, annotator, Asking("both"), AnnotationCache(tmp_path))
    by_order = [row["preference_baseline_first"], row["preference_model_first"]]
    assert row["preference"] == pytest.approx(sum(by_order) / 2)
    verdicts = dict(annotator.judge([Comparison("a", "d", "b c"), Comparison("a", "b c", "d")]))
    assert by_order == pytest.approx([verdicts[0].value, 3 - (verdicts[1].value or 0)], abs=1e-4)

    monkeypatch.setattr(Checkpoint, "load_tokenizer", None)  # a second run opens no model
    again = LocalAnnotator(Checkpoint(chat_model.source), prompts.pairwise, BATCH_TOKENS)
    assert annotate(ours, theirs, again, Asking("both"), AnnotationCache(tmp_path)) == [row]


def test_the_higher_reward_wins(reward_model: Checkpoint, tmp_path: Path) -> None:
    """The reward is the classifier's one logit of the whole conversation."""
    answers = ["b c", "d", "a a a", "b c d"]
    ours = [{"instruction": "a", "output": text, "generator": "m"} for text in answers]
    theirs = [{**row, "output": other} for row, other in zip(ours, answers[1:] + answers[:1], strict=True)]
    annotator = RewardModelAnnotator(reward_model, BATCH_TOKENS)
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
    repeated = annotate(ours, theirs, RewardModelAnnotator(reward_model, BATCH_TOKENS), cache=AnnotationCache(tmp_path))
    assert repeated == rows
