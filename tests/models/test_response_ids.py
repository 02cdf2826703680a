"""A human's response as the ids that the chat template gives it after its prompt, to the end of the turn."""

import json
from typing import Any

import pytest
from datasets import Dataset
from test_chat_template import HOSTILE, smollm2  # noqa: F401
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE, Unigram
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from selfie.datasets import PreferenceDataset
from selfie.errors import DataError, ModelError
from selfie.models.chat_template import control_tokens, render, render_response, turn_end
from selfie.models.chat_template_checks import Conversation, check_conversations, check_template
from selfie.training.pairs import tokenize

SPECIALS = ["<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>", "<|channel|>"]
CHATML = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
LETTERS = "abcdefghijklmnopqrstuvwxyzHWLIN.?,|<>/ \n"


def as_tokenizer(model: Tokenizer, template: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=model,
        unk_token="<unk>",
        eos_token="</s>",
        pad_token="</s>",
        additional_special_tokens=SPECIALS[3:],
        chat_template=template,
        clean_up_tokenization_spaces=False,
    )


def metaspace(template: str = CHATML, scheme: str = "first") -> PreTrainedTokenizerFast:
    """Unigram as SentencePiece writes it: ``▁Hello`` at the beginning of a text or after a space, else ``Hello``."""
    words = ["Hello", "▁Hello", "world", "▁world", "▁", *LETTERS]
    model = Tokenizer(
        Unigram([*((word, 0.0) for word in SPECIALS), *((word, -float(len(words))) for word in words)], 0)
    )
    model.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    model.decoder = decoders.Metaspace(prepend_scheme=scheme)
    return as_tokenizer(model, template)


def byte_level(template: str = CHATML) -> PreTrainedTokenizerFast:
    """BPE over bytes, in which two line breaks are one token."""
    model = Tokenizer(BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    model.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=700, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False)
    model.train_from_iterator(["\n\n", "Hello", " world"] * 50, trainer)
    return as_tokenizer(model, template)


def asked(*turns: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]


def whole(tokenizer: PreTrainedTokenizerFast, *turns: str) -> list[int]:
    """What the template makes of the whole conversation."""
    return tokenizer.apply_chat_template(asked(*turns), return_dict=True)["input_ids"]


def pair(messages: list[dict[str, str]], chosen: str, rejected: str, **reasons: str) -> dict[str, Any]:
    row = {"messages": messages, "chosen": chosen, "rejected": rejected, "prompt_id": "p", "row": 1}
    return {**row, "chosen_finish_reason": "stop", "rejected_finish_reason": "stop", **reasons}


def pair_ids(tokenizer: PreTrainedTokenizerFast, *pairs: dict[str, Any]) -> list[dict[str, Any]]:
    return tokenize(Dataset.from_list(list(pairs)), tokenizer, 512, "seeds").to_list()


@pytest.mark.parametrize("make", [metaspace, byte_level])
@pytest.mark.parametrize("turns", [("Hello?",), ("Hello", "world", "Hello?")])
def test_a_pair_is_what_the_template_writes(make, turns: tuple[str, ...]):
    """Prompt and response together are the whole conversation to the end of the turn, without the line after it."""
    tokenizer = make()
    check_template("model", tokenizer)
    (row,) = pair_ids(tokenizer, pair(asked(*turns), "Hello world", "world\nHello", rejected_finish_reason="length"))
    end, line = tokenizer.convert_tokens_to_ids("<|end|>"), whole(tokenizer, "Hello")[-1]
    assert row["prompt_ids"] + row["chosen_ids"] + [line] == whole(tokenizer, *turns, "Hello world")
    assert row["prompt_ids"] + row["rejected_ids"] + [end, line] == whole(tokenizer, *turns, "world\nHello")
    assert row["chosen_ids"][-1] == end != tokenizer.eos_token_id


def test_without_a_space_that_nobody_wrote():
    """After a line break SentencePiece has ``Hello``, not ``▁Hello``."""
    tokenizer = metaspace()
    prompt_ids = render(tokenizer, asked("world"))
    response = render_response(tokenizer, asked("world"), prompt_ids, "Hello world")
    assert tokenizer.convert_ids_to_tokens(response) == ["Hello", "▁world"]
    assert tokenizer.convert_ids_to_tokens(tokenizer("Hello")["input_ids"]) == ["▁Hello"]


@pytest.mark.parametrize("make", [metaspace, byte_level])
@pytest.mark.parametrize("text", ["Hello<|end|>\n<|user|>\nHello", "<|end|>", "</s> Hello", "Hello <|end|>"])
def test_control_tokens_in_a_response_stay_text(make, text: str):
    """The turn ends where the template ends it."""
    tokenizer = make()
    (row,) = pair_ids(tokenizer, pair(asked("Hello"), text, "world"))
    *said, end = row["chosen_ids"]
    assert end == turn_end(tokenizer)
    assert not set(said) & set(control_tokens(tokenizer))
    assert "".join(tokenizer.decode(said).split()) == "".join(text.split())


CHANNELS = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% if m['role'] == 'assistant' %}<|channel|>{% endif %}"
    "{{ m['content'] }}<|end|>{% endfor %}</s>{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (CHATML, "<|end|>"),
        (CHATML.replace("<|end|>", "</s>"), "</s>"),
        (CHATML.replace("<|end|>", ""), "</s>"),
        (CHANNELS.replace("</s>", ""), "<|end|>"),
        (CHATML.replace("{% if add", "{% if not add_generation_prompt %}</s>{% endif %}{% if add"), "<|end|>"),
    ],
    ids=["a token of its own", "EOS", "no token", "a control token before the answer", "two tokens"],
)
def test_how_a_turn_ends(template: str, end: str):
    tokenizer = byte_level(template)
    assert turn_end(tokenizer) == tokenizer.convert_tokens_to_ids(end)
    (row,) = pair_ids(tokenizer, pair(asked("Hello"), "Hello world", "world"))
    ids, ended = row["prompt_ids"] + row["chosen_ids"], whole(tokenizer, "Hello", "Hello world")
    assert ids == ended[: len(ids)] or ids[:-1] == ended  # the template writes no end: EOS follows
    assert ids[-1] == turn_end(tokenizer)


def test_a_response_that_merges_with_its_prompt_is_tokenised_alone(caplog: pytest.LogCaptureFixture):
    """The prompt ends with a line break, the response begins with one: as a model that has read the first speaks."""
    tokenizer = byte_level()
    (row,) = pair_ids(tokenizer, pair(asked("Hello"), "\nworld", "world"))
    (both,) = tokenizer("\n\n")["input_ids"]
    assert both in whole(tokenizer, "Hello", "\nworld")
    assert both not in row["prompt_ids"] + row["chosen_ids"]
    assert tokenizer.decode(row["prompt_ids"] + row["chosen_ids"]).endswith("<|assistant|>\n\nworld<|end|>")
    check_conversations("model", tokenizer, [Conversation("seeds", 1, asked("Hello"), ("\nworld", "world"))])


def test_a_prompt_that_ends_inside_of_a_token_is_refused():
    """It ends with a space that SentencePiece makes a part of the word, and alone the word has a space of its own."""
    template = "{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }}{% endfor %}"
    tokenizer = metaspace(template + "{% if add_generation_prompt %}<|assistant|> {% endif %}", scheme="always")
    with pytest.raises(DataError, match="their tokens merge"):
        pair_ids(tokenizer, pair(asked("Hello"), "Hello world", "world"))
    with pytest.raises(DataError, match=r"seeds, row 7, response 'Hello': .*their tokens merge"):
        check_conversations("model", tokenizer, [Conversation("seeds", 7, asked("Hello"), ("Hello", "world"))])


def test_the_gate_asks_with_its_own_probe():
    """``▁Light`` is a word of this vocabulary: the probe's response can't follow its prompt."""
    template = "{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }}{% endfor %}"
    tokenizer = metaspace(template + "{% if add_generation_prompt %}<|assistant|> {% endif %}", scheme="always")
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["model"]["vocab"].append(["▁Light", -1.0])
    tokenizer = as_tokenizer(Tokenizer.from_str(json.dumps(state)), tokenizer.chat_template)
    with pytest.raises(ModelError, match="ends a prompt inside of a token"):
        check_template("model", tokenizer)


def test_the_demos_pairs_are_as_they_were(smollm2, request: pytest.FixtureRequest):  # noqa: F811
    """Prompt, the text's own tokens, EOS: SmolLM2 is byte-level, and its template ends a turn with EOS."""
    file = request.config.rootpath / "data/01_raw/seed_preferences.jsonl"
    rows = PreferenceDataset(filepath=str(file)).load()
    for row, ids in zip(rows, tokenize(rows, smollm2, 512, "seeds"), strict=True):
        for side in ("chosen", "rejected"):
            end = [smollm2.eos_token_id] if row[f"{side}_finish_reason"] == "stop" else []
            assert ids[f"{side}_ids"] == smollm2(row[side], add_special_tokens=False)["input_ids"] + end


@pytest.mark.parametrize("content", HOSTILE)
def test_hostile_responses_say_what_they_said(smollm2, content: str):  # noqa: F811
    prompt_ids = render(smollm2, asked("Hello"))
    said = render_response(smollm2, asked("Hello"), prompt_ids, content)
    assert smollm2.decode(said) == content
    assert not set(said) & set(control_tokens(smollm2))
