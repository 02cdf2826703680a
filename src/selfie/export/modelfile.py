"""Ollama's ``Modelfile``: where the GGUF file is, how a conversation is written, where an answer ends."""

import logging
from dataclasses import dataclass
from itertools import product

from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)
MARKS = "\ue000\ue001\ue002\ue003"  # contents to find in what a template writes
Messages = list[dict[str, str]]


@dataclass(frozen=True)
class TurnFormat:
    """What a chat template writes around each role's content, before the conversation and where an answer begins."""

    beginning: str
    around: dict[str, tuple[str, str]]
    answer: str
    system: str | None
    """The system turn that it writes where a conversation has none."""

    def write(self, messages: Messages) -> str:
        """The conversation as text, up to where the answer begins; what Ollama's template makes of it."""
        if self.system is not None and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": self.system}, *messages]
        turns = (self.around[message["role"]] for message in messages)
        parts = (f"{before}{m['content']}{after}" for m, (before, after) in zip(messages, turns, strict=True))
        return self.beginning + "".join(parts) + self.answer


def modelfile(tokenizer: PreTrainedTokenizerBase, stops: list[int], gguf: str) -> str:
    """The text of a ``Modelfile``.

    Args:
        tokenizer: with its chat template, which is taken over if a plain sequence of turns says the same.
        stops: token ids that end an answer.
        gguf: the name of the file beside it.
    """
    lines = [f"FROM ./{gguf}"]
    turns = read_turns(tokenizer)
    if turns is None:
        logger.warning("the chat template is no plain sequence of turns: the Modelfile leaves it to Ollama")
        lines.append("# The chat template is not a plain sequence of turns. Compare `ollama show --template` with it.")
    else:
        roles = list(turns.around.items())
        cases = [f'{{{{ if eq .Role "{role}" }}}}{a}{{{{ .Content }}}}{b}{{{{ end }}}}' for role, (a, b) in roles]
        body = "{{ range .Messages }}" + "".join(cases) + "{{ end }}"
        lines.append(f'TEMPLATE """{turns.beginning}{body}{turns.answer}"""')
        if turns.system is not None:
            lines.append(f'SYSTEM """{turns.system}"""')
    names = tokenizer.convert_ids_to_tokens(stops)
    lines += [f'PARAMETER stop "{name}"' for name in dict.fromkeys(names)]
    return "\n".join(lines) + "\n"


def read_turns(tokenizer: PreTrainedTokenizerBase) -> TurnFormat | None:
    """Reads the format off what the chat template writes; None if it is no plain sequence of turns."""
    try:
        turns = _find_turns(tokenizer)
        agrees = all(turns.write(messages) == _write(tokenizer, messages, True) for messages in _examples())
    except Exception:  # a template may refuse a role, and any part may not be where it is looked for
        return None
    texts = [
        turns.beginning,
        turns.answer,
        turns.system or "",
        *(text for pair in turns.around.values() for text in pair),
    ]
    return turns if agrees and not any(sign in text for text in texts for sign in ("{{", "}}", '"""')) else None


def _find_turns(tokenizer: PreTrainedTokenizerBase) -> TurnFormat:
    roles = ("system", "user", "assistant", "user")
    messages = [{"role": role, "content": mark} for role, mark in zip(roles, MARKS, strict=True)]
    whole = _write(tokenizer, messages, False)
    before_system, system_user, user_assistant, assistant_user, after_user = _split(whole)
    answer = _write(tokenizer, messages, True).removeprefix(whole)
    after_assistant = _write(tokenizer, messages[:3], False).rpartition(MARKS[2])[2]
    before_user = assistant_user.removeprefix(after_assistant)
    after_system = system_user.removesuffix(before_user)
    before_assistant = user_assistant.removeprefix(after_user)
    beginning = _write(tokenizer, messages[1:2], False).partition(MARKS[1])[0].removesuffix(before_user)
    system = None
    if beginning and beginning.endswith(after_system) and beginning.startswith(before_system):
        system = beginning[len(before_system) : len(beginning) - len(after_system)]
        beginning = ""
    around = {
        "system": (before_system.removeprefix(beginning), after_system),
        "user": (before_user, after_user),
        "assistant": (before_assistant, after_assistant),
    }
    return TurnFormat(beginning, around, answer, system)


def _split(text: str) -> list[str]:
    parts = []
    for mark in MARKS:
        part, found, text = text.partition(mark)
        if not found:
            raise ValueError("a content is not where it should be")
        parts.append(part)
    return [*parts, text]


def _examples() -> list[Messages]:
    """Conversations with and without a system turn, of one turn and of several."""
    turns = [
        ("user", "What is it?"),
        ("assistant", "A tree."),
        ("user", "Which one?"),
        ("assistant", "An oak."),
        ("user", "Why?"),
    ]
    asked = [{"role": role, "content": content} for role, content in turns]
    system = [{"role": "system", "content": "Be brief."}]
    return [first + asked[:length] for first, length in product(([], system), (1, 3, 5))]


def _write(tokenizer: PreTrainedTokenizerBase, messages: Messages, answer: bool) -> str:
    return str(tokenizer.apply_chat_template(messages, add_generation_prompt=answer, tokenize=False))
