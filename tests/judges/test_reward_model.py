"""Reward models: scores against one plain forward pass a row, and a real training."""

import random
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, LlamaConfig, LlamaForSequenceClassification

from selfie.config.parameters import JudgingParameters
from selfie.config.training import RewardModelParameters
from selfie.errors import ModelError
from selfie.judges import reward_model
from selfie.judges.response_rewards import response_rewards
from selfie.judges.reward_model import reward_model_scores, train_reward_model
from selfie.models.checkpoint import Checkpoint
from selfie.storage.shards import Shards
from selfie.synthetic.language import make_tokenizer

PARAMETERS = RewardModelParameters(
    learning_rate=2e-3,
    epochs=3,
    batch_size=16,
    micro_batch_size=8,
    learning_rate_warmup=0.1,
    weight_decay=0.0,
    max_grad_norm=1.0,
)
WORDS = [f"w{number:02d}" for number in range(2, 32)]


def one_turn(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def conversations(count: int) -> tuple[list[list[dict[str, str]]], list[str]]:
    """Prompts of one to three words, answers of 1 to 12: many of one length, and many lengths."""
    rng = random.Random(0)
    prompts = [one_turn(" ".join(rng.choices(["t0a", "t1b", "t2c"], k=rng.randint(1, 3)))) for _ in range(count)]
    return prompts, [" ".join(rng.choices(WORDS, k=rng.randint(1, 12))) for _ in range(count)]


def save_classifier(folder: Path, labels: int = 1, pad: str | None = "<pad>", end: str = "") -> Checkpoint:
    """A random one; ``pad`` names its padding token, ``end`` is what the template puts after an answer."""
    tokenizer = make_tokenizer()
    if pad is not None:
        tokenizer.pad_token = pad
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<user> ' if m['role'] == 'user' else '<assistant> ' }}{{ m['content'] }} "
        f"{end}{{% endfor %}}"
    )
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=128,
            initializer_range=0.2,
            num_labels=labels,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=None if pad is None else tokenizer.pad_token_id,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Checkpoint(str(folder))


@pytest.mark.parametrize(
    ("pad", "end"),
    [("<pad>", ""), ("<eos>", ""), ("<eos>", "<eos>"), (None, ""), (None, "<eos>")],
    ids=["padding token", "EOS pads", "EOS pads and ends", "no padding token", "no padding token, EOS ends"],
)
def test_scores_equal_one_plain_pass_a_row(tmp_path: Path, pad: str | None, end: str):
    """40 answers in batches of one length, of rewards that spread by more than 0.5; in float32."""
    checkpoint = save_classifier(tmp_path, pad=pad, end=end)
    prompts, responses = conversations(40)
    scores = reward_model_scores(checkpoint, prompts, responses, 10_000)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float32).eval()
    tokenizer = make_tokenizer()
    expected = []
    for (turn,), response in zip(prompts, responses, strict=True):
        text = f"<user> {turn['content']} {end}<assistant> {response} {end}"
        with torch.no_grad():
            expected.append(model(input_ids=torch.tensor([tokenizer(text)["input_ids"]])).logits.item())
    assert scores.tolist() == pytest.approx(expected, abs=1e-4)
    assert scores.std() > 0.5
    torch.testing.assert_close(reward_model_scores(checkpoint, prompts, responses, 1), scores, atol=1e-4, rtol=0)


def test_the_judge_asks_it(tmp_path: Path):
    """About whole conversations: two that end with the same turn are not rated alike."""
    checkpoint = save_classifier(tmp_path)
    prompts, responses = conversations(6)
    before = [{"role": "user", "content": "t0b"}, {"role": "assistant", "content": "w05"}]
    prompts, responses = [*prompts, [*before, *prompts[0]]], [*responses, responses[0]]
    rows = Dataset.from_dict({"prompt_id": list("abcdefg"), "messages": prompts, "response": responses})
    parameters = JudgingParameters(judge="reward_model", batch_tokens=512)
    rewards = response_rewards(rows, parameters, 0.1, None, checkpoint)
    torch.testing.assert_close(rewards, reward_model_scores(checkpoint, prompts, responses, 512))
    assert abs(rewards[0] - rewards[-1]) > 0.05


def test_rewards_in_shards_are_computed_once(tmp_path: Path, monkeypatch):
    """The second time all shards are there, and no model is loaded."""
    checkpoint = save_classifier(tmp_path / "model")
    prompts, responses = conversations(7)
    first = reward_model_scores(checkpoint, prompts, responses, 512, Shards(tmp_path / "shards", 3))
    torch.testing.assert_close(first, reward_model_scores(checkpoint, prompts, responses, 512), atol=1e-4, rtol=0)
    monkeypatch.delattr(reward_model, "_load_judge")
    assert reward_model_scores(checkpoint, prompts, responses, 512, Shards(tmp_path / "shards", 3)).equal(first)


def test_a_classifier_of_two_labels_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match="one label, this one has 2"):
        reward_model_scores(save_classifier(tmp_path, labels=2), [one_turn("t0a")], ["w01"], 64)


def preferences(count: int, seed: int) -> Dataset:
    """Chosen has w01 in it, in any place; else the two answers are the same words."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        words = rng.choices(WORDS, k=rng.randint(3, 8))
        place = rng.randrange(len(words))
        row = {"messages": [{"role": "user", "content": rng.choice(["t0a", "t1b", "t2c"])}]}
        row["chosen"] = " ".join([*words[:place], "w01", *words[place + 1 :]])
        rows.append({**row, "rejected": " ".join(words)})
    return Dataset.from_list(rows)


def accuracy(checkpoint: Checkpoint, pairs: Dataset) -> float:
    prompts = pairs["messages"][:]
    chosen, rejected = (reward_model_scores(checkpoint, prompts, pairs[s][:], 4096) for s in ("chosen", "rejected"))
    return (chosen > rejected).double().mean().item()


def test_it_learns_an_easy_preference(tiny_checkpoint: Checkpoint, tmp_path: Path):
    """From 192 pairs, judged on 100 others; the same seed gives the same bytes, another seed others."""
    pairs, others = preferences(192, seed=0), preferences(100, seed=1)
    trained = [
        train_reward_model(tiny_checkpoint, pairs, PARAMETERS, seed, tmp_path / name)
        for name, seed in (("one", 0), ("again", 0), ("other", 1))
    ]
    assert accuracy(trained[0], others) > 0.9
    first, again, other = ((Path(c.source) / "model.safetensors").read_bytes() for c in trained)
    assert first == again
    assert first != other
    files = {file.name for file in Path(trained[0].source).iterdir()}
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pth", ".pkl", ".pickle"))]
    assert trained[0].load_tokenizer().chat_template == tiny_checkpoint.load_tokenizer().chat_template


def test_every_weight_learns(tiny_checkpoint: Checkpoint, tmp_path: Path):
    """The body starts where the causal model is, and moves with the head."""
    trained = train_reward_model(tiny_checkpoint, preferences(32, seed=0), PARAMETERS, 0, tmp_path)
    body = tiny_checkpoint.load_model(torch.float32).model.state_dict()
    moved = AutoModelForSequenceClassification.from_pretrained(trained.source, dtype=torch.float32).model.state_dict()
    for name, weight in body.items():
        change = (moved[name] - weight).abs().max()
        assert 0 < change < 0.1, name
