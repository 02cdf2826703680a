"""Conversations as token ids. What a user writes stays text: a control token's name in it never becomes that token.

A chat template writes control tokens (``<|im_end|>``) and contents into one string, and tokenising that string turns
the token's name into the token wherever it stands. So a prompt that quotes ``<|im_end|>`` could end its own turn and
open a system turn. Here the control tokens of the result must be those that the template writes around harmless
contents; otherwise every such name in the contents is tokenised apart, cut in two, as the text that it is.

A response's ids are those that follow its prompt's where the template writes both: the same words tokenised alone are
other ids for tokenizers that mark the beginning of a text (SentencePiece writes ``▁Hello``, after a line break
``Hello``).
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import takewhile
from typing import Any

from transformers import PreTrainedTokenizerBase

from selfie.errors import DataError

PRIVATE_USE = range(0xF0000, 0xFFFFE)  # code points that stand for nothing
Message = dict[str, str]


def render(
    tokenizer: PreTrainedTokenizerBase, messages: list[Message], add_generation_prompt: bool = True
) -> list[int]:
    """A conversation as token ids, by default up to where the assistant's turn begins.

    Raises:
        DataError: a content spells a control token in a way that can't be kept apart from the token.
    """
    encoded: Any = tokenizer.apply_chat_template(
        messages, add_generation_prompt=add_generation_prompt, tokenize=True, return_dict=True
    )
    token_ids = list(encoded["input_ids"])
    roles = tuple(message["role"] for message in messages)
    wanted = _skeleton(tokenizer, tokenizer.get_chat_template(), roles, add_generation_prompt)
    if _controls(tokenizer, token_ids) == wanted:
        return token_ids
    names = _names(tokenizer, (message["content"] for message in messages))
    marked = [{**m, "content": _replace(m["content"], names)} for m in messages]
    text = tokenizer.apply_chat_template(marked, add_generation_prompt=add_generation_prompt, tokenize=False)
    token_ids = _encode_pieces(tokenizer, str(text), names)
    if _controls(tokenizer, token_ids) != wanted:
        last = messages[-1]
        raise _inseparable("response" if last["role"] == "assistant" else "prompt", last["content"])
    return token_ids


def render_response(
    tokenizer: PreTrainedTokenizerBase, messages: list[Message], prompt_ids: list[int], response: str
) -> list[int]:
    """A response as the token ids that follow its prompt's, without the token that ends the turn.

    Where the last token of the prompt and the first of the response merge in the whole conversation, the response is
    tokenised alone: after the prompt's ids the model can no longer sample the merged token.

    Args:
        tokenizer: with its chat template.
        messages: the prompt.
        prompt_ids: the prompt as :func:`render` gives it.
        response: the answer to it.

    Raises:
        DataError: the response spells a control token, or no ids after the prompt's give the template's text.
    """
    whole = render(tokenizer, [*messages, {"role": "assistant", "content": response}], add_generation_prompt=False)
    end = _template_end(tokenizer, tokenizer.get_chat_template())
    if end is not None:
        whole = whole[: len(whole) - 1 - whole[::-1].index(end)]
    if whole[: len(prompt_ids)] == prompt_ids:
        return whole[len(prompt_ids) :]
    alone = encode_text(tokenizer, response)
    if tokenizer.decode(prompt_ids + alone) != tokenizer.decode(whole):
        raise DataError(
            _shown("response", response),
            "after its prompt's token ids no ids give what the chat template writes: their tokens merge",
            "remove the row, or write a chat template whose prompt does not end inside of a token",
        )
    return alone


def turn_end(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token with which the chat template ends an assistant's turn; the end-of-sequence token if it has none."""
    end = _template_end(tokenizer, tokenizer.get_chat_template())
    return tokenizer.eos_token_id if end is None else end


def as_text(messages: list[Message]) -> str:
    """A conversation for judges and readers: a single user's turn as it is, several turns each after its role."""
    if [message["role"] for message in messages] == ["user"]:
        return messages[0]["content"]
    return "\n\n".join(f"{message['role'].capitalize()}: {message['content']}" for message in messages)


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """A response's text as token ids, no control token among them.

    Raises:
        DataError: it spells a control token in a way that can't be kept apart from the token.
    """
    token_ids = _encode(tokenizer, text)
    if _controls(tokenizer, token_ids):
        names = _names(tokenizer, [text])
        token_ids = _encode_pieces(tokenizer, _replace(text, names), names)
        if _controls(tokenizer, token_ids):
            raise _inseparable("response", text)
    return token_ids


@lru_cache(maxsize=16)
def control_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Token id → name of the tokens that are more than text.

    The unknown token counts only where no text gives it: byte-level tokenizers list some other one in its place.
    """
    tokens = {number: token.content for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    unknown = _encode(tokenizer, chr(PRIVATE_USE[-1]))
    return {number: name for number, name in tokens.items() if number not in unknown}


@lru_cache(maxsize=256)
def _skeleton(
    tokenizer: PreTrainedTokenizerBase, template: str, roles: tuple[str, ...], add_generation_prompt: bool
) -> list[int]:
    """The control tokens that the template itself writes."""
    encoded: Any = tokenizer.apply_chat_template(
        [{"role": role, "content": "x"} for role in roles],
        chat_template=template,
        add_generation_prompt=add_generation_prompt,
        tokenize=True,
        return_dict=True,
    )
    return _controls(tokenizer, encoded["input_ids"])


@lru_cache(maxsize=16)
def _template_end(tokenizer: PreTrainedTokenizerBase, template: str) -> int | None:
    """The first control token after an answer, whatever the answer is."""
    question = {"role": "user", "content": "x"}
    backwards = [
        str(
            tokenizer.apply_chat_template(
                [question, {"role": "assistant", "content": answer}], chat_template=template, tokenize=False
            )
        )[::-1]
        for answer in ("x", "y")
    ]
    same = takewhile(lambda characters: characters[0] == characters[1], zip(*backwards, strict=False))
    ending = "".join(character for character, _ in same)[::-1]
    after = _controls(tokenizer, _encode(tokenizer, ending))
    return after[0] if after else None


def _controls(tokenizer: PreTrainedTokenizerBase, token_ids: Iterable[int]) -> list[int]:
    control = control_tokens(tokenizer)
    return [token for token in token_ids if token in control]


def _names(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> dict[str, str]:
    """Each control token's name, the longest first → a character that is in none of the texts."""
    used = set().union(*texts)
    free = (chr(code) for code in PRIVATE_USE if chr(code) not in used)
    names = sorted(control_tokens(tokenizer).values(), key=len, reverse=True)
    return dict(zip(names, free, strict=False))


def _replace(text: str, names: dict[str, str]) -> str:
    return re.sub("|".join(map(re.escape, names)), lambda found: names[found.group()], text)


def _encode_pieces(tokenizer: PreTrainedTokenizerBase, text: str, names: dict[str, str]) -> list[int]:
    written = {mark: name for name, mark in names.items()}
    token_ids: list[int] = []
    for piece in re.split(f"([{''.join(written)}])", text):
        # Cut in two, a name is not the token's any more, even where the vocabulary has it as a word.
        parts = (written[piece][:1], written[piece][1:]) if piece in written else (piece,)
        for part in parts:
            token_ids += _encode(tokenizer, part)
    return token_ids


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def _inseparable(what: str, text: str) -> DataError:
    return DataError(
        _shown(what, text),
        "it spells one of the tokenizer's control tokens in a way that can't be told from the token",
        "remove it from the text",
    )


def _shown(what: str, text: str) -> str:
    return f"{what} {text if len(text) <= 80 else f'{text[:80]}…'!r}"  # noqa: PLR2004
