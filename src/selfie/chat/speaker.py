"""One policy that answers, token by token."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase, TextStreamer

from selfie.errors import DataError
from selfie.generation.engine import Request, Sampling
from selfie.generation.transformers_engine import TransformersEngine
from selfie.models.chat_template import Message, render

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # what a terminal would obey


@dataclass(frozen=True)
class Answer:
    """What was said, by whom, and whether it ended by itself (``stop``) or was cut (``length``)."""

    speaker: str
    text: str
    finish_reason: str


class Speaker:
    """A policy with its name and how it samples.

    Args:
        name: of the policy.
        engine: opened, with the policy loaded.
        sampling: temperature, top-p, longest answer.
        max_length: tokens of conversation and answer together.
    """

    def __init__(self, name: str, engine: TransformersEngine, sampling: Sampling, max_length: int):
        self.name, self.engine, self.sampling, self.max_length = name, engine, sampling, max_length

    def answer(self, messages: list[Message], seed: int, write: Callable[[str], None]) -> Answer:
        """Answers the conversation; ``write`` gets the text as it comes. Ctrl-C cuts the answer.

        Raises:
            DataError: the conversation leaves no room for an answer, or spells a control token.
        """
        tokenizer = self.engine.tokenizer
        prompt_ids = render(tokenizer, messages)
        if len(prompt_ids) + self.sampling.max_new_tokens > self.max_length:
            problem = f"it has {len(prompt_ids)} tokens, and max_length {self.max_length} leaves no room for an answer"
            raise DataError("the conversation", problem, "begin a new one with /new, or raise --params max_length=")
        stream = _Stream(tokenizer, self.engine.stops, write)
        try:
            self.engine.stream(Request(prompt_ids, seed), self.sampling, stream)
        except KeyboardInterrupt:
            stream.end()
        text = str(tokenizer.decode(stream.token_ids, skip_special_tokens=True))
        return Answer(self.name, text, stream.finish_reason)


class _Stream(TextStreamer):
    """Keeps the token ids and hands the text on, without what ends the answer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: list[int], write: Callable[[str], None]):
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.stops, self.write = stops, write
        self.token_ids: list[int] = []
        self.finish_reason = "length"

    def put(self, value) -> None:
        if not self.next_tokens_are_prompt:
            (token,) = value.tolist()
            if token in self.stops:
                self.finish_reason = "stop"
                return
            self.token_ids.append(token)
        super().put(value)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.write(_CONTROL.sub("", text))
