"""The prompted judge, against its full next-token distribution."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from string import Formatter

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from selfie.config.parameters import JudgingParameters, QuestionParameters
from selfie.errors import ConfigurationError
from selfie.judges import prompted_policy as verdict
from selfie.judges.prompted_policy import VerdictPrompt, verdict_probabilities
from selfie.judges.response_rewards import response_rewards
from selfie.models.checkpoint import Checkpoint
from selfie.preference.implicit_reward import preference_probability
from selfie.storage.shards import Shards
from selfie.synthetic.language import QUESTION, VERDICTS

ASK = VerdictPrompt(QUESTION, *VERDICTS)
PROMPTS = ["t0a t0b t0c", "t1a t1b", "t2a", "t3a t3b t3c", "t0d", "t1e t1f"]
FIRST = ["w01 w02 w03 w04 w05", "w06", "w07 w08 w09 w10 w11 w12 w13", "w14 w15", "w16 w17 w18", "w19"]
SECOND = ["w20 w21", "w22 w23 w24 w25", "w26", "w27 w28 w29 w30 w31", "w01 w03 w05", "w02 w04 w06 w08"]
TEXTS = st.lists(
    st.sampled_from(["{prompt}", "{response_1}", "{response_2}", "{", "}", "{}", "{0}", "\\1", "\\g<1>", "%s", "é\n"])
    | st.text(max_size=4)
).map("".join)


@given(TEXTS, TEXTS, TEXTS)
def test_texts_stay_what_they_are(prompt: str, first: str, second: str):
    """Placeholders, braces and backslashes in a prompt or a response are text; the template's others too."""
    question = VerdictPrompt("P {prompt} A {response_1} B {response_2} again {prompt} and {x} {}", "A", "B")
    expected = f"P {prompt} A {first} B {second} again {prompt} and {{x}} {{}}"
    assert question.fill(prompt, first, second) == expected


def test_the_templates_placeholders_are_those_that_parameters_ask_for():
    assert {name for _, name, _, _ in Formatter().parse(QUESTION) if name} == {"prompt", "response_1", "response_2"}


@pytest.mark.parametrize("verdicts", [("first", "first"), ("first", "first second"), ("Yes", "No"), ("first", " ")])
def test_verdicts_that_cannot_be_told_apart_are_refused(tokenizer: PreTrainedTokenizerFast, verdicts: tuple[str, str]):
    """The same word, the same beginning, two words that the vocabulary lacks, and one without a token."""
    with pytest.raises(ConfigurationError, match=r"judging\.question\.verdicts"):
        VerdictPrompt(QUESTION, *verdicts).token_ids(tokenizer)


def test_verdict_tokens_are_the_first_of_each(tokenizer: PreTrainedTokenizerFast):
    ids = VerdictPrompt(QUESTION, "second w01", "first w01").token_ids(tokenizer)
    assert tokenizer.convert_ids_to_tokens(ids) == ["second", "first"]


def naive(checkpoint: Checkpoint, firsts: Sequence[str], seconds: Sequence[str]) -> list[float]:
    """P(first verdict) over P(either), from the softmax over the whole vocabulary, a row at a time."""
    model, tokenizer = checkpoint.load_model(torch.float32), checkpoint.load_tokenizer()
    values = []
    for prompt, first, second in zip(PROMPTS, firsts, seconds, strict=True):
        text = f"<user> judge {prompt} | {first} | {second} <assistant>"
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([tokenizer(text)["input_ids"]])).logits[0, -1].double()
        probabilities = torch.softmax(logits, dim=-1)
        a, b = (probabilities[tokenizer.convert_tokens_to_ids(verdict)].item() for verdict in VERDICTS)
        values.append(a / (a + b))
    return values


def test_probabilities_equal_the_full_distributions(fp32_checkpoint: Checkpoint):
    """Both orders of six pairs; 1e-5 in fp32."""
    probabilities = verdict_probabilities(fp32_checkpoint, PROMPTS, FIRST, SECOND, ASK, 10_000)
    assert probabilities[:, 0].tolist() == pytest.approx(naive(fp32_checkpoint, FIRST, SECOND), abs=1e-5)
    swapped = [1 - p for p in naive(fp32_checkpoint, SECOND, FIRST)]
    assert probabilities[:, 1].tolist() == pytest.approx(swapped, abs=1e-5)
    assert probabilities[:, 0].std() > 0.05  # else a mix-up of rows would not show


def test_a_favoured_position_cancels(fp32_checkpoint: Checkpoint):
    """Showing the responses the other way round turns the averaged verdict into 1 − p, though one order does not."""
    straight = verdict_probabilities(fp32_checkpoint, PROMPTS, FIRST, SECOND, ASK, 10_000)
    swapped = verdict_probabilities(fp32_checkpoint, PROMPTS, SECOND, FIRST, ASK, 10_000)
    torch.testing.assert_close(swapped.mean(dim=1), 1 - straight.mean(dim=1), atol=1e-6, rtol=0)
    assert (swapped[:, 0] - (1 - straight[:, 0])).abs().max() > 0.05  # this judge does favour a position


def test_the_same_response_twice_is_a_draw(fp32_checkpoint: Checkpoint):
    probabilities = verdict_probabilities(fp32_checkpoint, PROMPTS, FIRST, FIRST, ASK, 10_000).mean(dim=1)
    assert probabilities.tolist() == pytest.approx([0.5] * len(PROMPTS), abs=1e-6)


@pytest.mark.parametrize("batch_tokens", [1, 30])
def test_verdicts_do_not_depend_on_the_batch(fp32_checkpoint: Checkpoint, batch_tokens: int):
    together = verdict_probabilities(fp32_checkpoint, PROMPTS, FIRST, SECOND, ASK, 10_000)
    apart = verdict_probabilities(fp32_checkpoint, PROMPTS, FIRST, SECOND, ASK, batch_tokens)
    torch.testing.assert_close(apart, together, atol=1e-5, rtol=0)


def test_verdicts_in_shards_are_asked_once(fp32_checkpoint: Checkpoint, tmp_path: Path, monkeypatch):
    """Twelve questions in shards of five; of three shards one is lost, and is asked for again."""
    together = verdict_probabilities(fp32_checkpoint, PROMPTS, FIRST, SECOND, ASK, 10_000)
    shards = Shards(tmp_path, 5)
    first = verdict_probabilities(fp32_checkpoint, PROMPTS, FIRST, SECOND, ASK, 10_000, shards)
    torch.testing.assert_close(first, together, atol=1e-5, rtol=0)
    shutil.rmtree(tmp_path / "shard-000001")
    sizes: list[int] = []
    ask = verdict._log_odds

    def counting(model, asked, *rest):
        sizes.append(len(asked))
        return ask(model, asked, *rest)

    monkeypatch.setattr(verdict, "_log_odds", counting)
    assert verdict_probabilities(fp32_checkpoint, PROMPTS, FIRST, SECOND, ASK, 10_000, shards).equal(first)
    assert sizes == [5]


def test_near_ties_are_not_rounded_to_draws(tiny_model: LlamaForCausalLM, tokenizer, tmp_path: Path):
    """The verdicts' rows of the head differ by 1/128 of each weight: less than what bf16 logits can tell apart."""
    a, b = ASK.token_ids(tokenizer)
    head = tiny_model.lm_head.weight.data
    generator = torch.Generator().manual_seed(0)
    moved = 1 + (torch.rand(head.shape[1], generator=generator) < 0.1) / 128
    head[b] = head[a].bfloat16().float() * moved
    tiny_model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    checkpoint = Checkpoint(str(tmp_path))
    model = checkpoint.load_model(torch.bfloat16)
    draws = 0
    for prompt, first, second in zip(PROMPTS, FIRST, SECOND, strict=True):
        text = f"<user> {ASK.fill(prompt, first, second)} <assistant>"
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([tokenizer(text)["input_ids"]])).logits[0, -1]
        draws += int(logits[a] == logits[b])
    probabilities = verdict_probabilities(checkpoint, PROMPTS, FIRST, SECOND, ASK, 10_000)
    assert draws >= 2
    assert (probabilities[:, 0] != 0.5).all()
    assert (probabilities - 0.5).abs().max() < 0.01


def judging(**changes) -> JudgingParameters:
    question = QuestionParameters(template=QUESTION, verdicts=list(VERDICTS))
    return JudgingParameters(judge="prompted_policy", question=question, batch_tokens=10_000, **changes)


def scored(*groups: Sequence[str]) -> Dataset:
    return Dataset.from_list(
        [
            {"prompt_id": prompt, "prompt": prompt, "response": response}
            for prompt, group in zip(PROMPTS, groups, strict=False)
            for response in group
        ]
    )


def averaged(checkpoint: Checkpoint, prompt: str, first: str, second: str) -> float:
    """The log-odds of the averaged verdict on one pair."""
    p = verdict_probabilities(checkpoint, [prompt], [first], [second], ASK, 10_000).mean().item()
    return math.log(p / (1 - p))


def test_two_responses_differ_by_the_log_odds(fp32_checkpoint: Checkpoint):
    """So that the pair's Bradley–Terry probability is the judge's own."""
    rewards = response_rewards(scored(*zip(FIRST, SECOND, strict=True)), judging(), 0.1, None, fp32_checkpoint)
    probabilities = verdict_probabilities(fp32_checkpoint, PROMPTS, FIRST, SECOND, ASK, 10_000).mean(dim=1)
    torch.testing.assert_close(preference_probability(rewards[::2], rewards[1::2]), probabilities, atol=1e-6, rtol=0)
    margins = (rewards[::2] - rewards[1::2]).tolist()
    assert margins == pytest.approx(torch.logit(probabilities).tolist(), abs=1e-5)
    assert {m > 0 for m in margins} == {True, False}


def test_three_responses_by_hand(fp32_checkpoint: Checkpoint):
    """With log-odds a = ℓ(1, 2), b = ℓ(1, 3), c = ℓ(2, 3): rewards (a + b)/3, (c − a)/3 and (−b − c)/3.

    A second prompt with two responses stands after it, so that the groups' borders count.
    """
    one, two, three = FIRST[0], SECOND[0], FIRST[2]
    rewards = response_rewards(
        scored([one, two, three], [FIRST[1], SECOND[1]]), judging(), 0.1, None, fp32_checkpoint
    ).tolist()
    pairs = ((one, two), (one, three), (two, three))
    a, b, c = (averaged(fp32_checkpoint, PROMPTS[0], *pair) for pair in pairs)
    other = averaged(fp32_checkpoint, PROMPTS[1], FIRST[1], SECOND[1])
    expected = [(a + b) / 3, (c - a) / 3, (-b - c) / 3, other / 2, -other / 2]
    assert rewards == pytest.approx(expected, abs=1e-5)


def test_what_length_is_to_the_logit_judge():
    """β = 0.1, gains of 2 and 3 nats over 2 and 6 tokens: 0.2 and 0.3.

    One pair's margin is predicted by its lengths entirely: 0.025 a token leave 0.15 for both.
    """
    rows = Dataset.from_dict(
        {
            "prompt_id": ["a", "a"],
            "policy_log_prob": [-8.0, -20.0],
            "initial_log_prob": [-10.0, -23.0],
            "response_ids": [[9, 1], [9, 9, 9, 9, 9, 1]],
        }
    )
    for length, expected in (("summed", [0.2, 0.3]), ("neutral", [0.15, 0.15])):
        parameters = JudgingParameters(judge="implicit_reward", length=length, batch_tokens=64)
        assert response_rewards(rows, parameters, 0.1, None).tolist() == pytest.approx(expected)
