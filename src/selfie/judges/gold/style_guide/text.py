"""What the checks of the style guide see in an answer: words, sentences, content words."""

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from selfie.judges.gold.style_guide.function_words import FUNCTION_WORDS

_WORD = re.compile(r"[^\W_]+(?:['’.-][^\W_]+)*")  # don't, well-known and 3.5 are one word each
_SENTENCE_END = re.compile(r"([.!?…]+)([\"'”’)\]]*)(?=\s+(\S)|\s*$)")
_ABBREVIATION = re.compile(
    r"\b(?:(?:[a-z]\.[a-z]|[b-hj-z]|dr|mrs?|ms|st|vs|inc|ltd|co|approx)\.|etc\.(?=\s+[a-z]))", re.IGNORECASE
)  # e.g. a.m. U.S. J. Smith
_PLURALS = {
    "ies": "y",
    "oes": "o",
    "ches": "ch",
    "shes": "sh",
    "sses": "ss",
    "ss": "ss",
    "us": "us",
    "is": "is",
    "s": "",
}
"""Endings, the first that fits → what stands in their place."""


@dataclass(frozen=True)
class Answer:
    """A response to a prompt."""

    prompt: str
    response: str

    @cached_property
    def words(self) -> list[str]:
        """The response's, in lower case, in order."""
        return words_of(self.response)

    @cached_property
    def sentences(self) -> list[str]:
        """The response's; the last one may be unfinished."""
        return sentences_of(self.response)

    @cached_property
    def content(self) -> set[str]:
        """Content words of the response."""
        return content_words(self.response)

    @cached_property
    def asked(self) -> set[str]:
        """Content words of the prompt."""
        return content_words(self.prompt)


def words_of(text: str) -> list[str]:
    """Words in lower case, in order; apostrophes are straight ones."""
    return [word.lower().replace("’", "'") for word in _WORD.findall(text)]


def sentences_of(text: str) -> list[str]:
    """What stands between sentence ends; the point of an abbreviation or of 3.5 ends none."""
    masked = _ABBREVIATION.sub(lambda match: match.group().replace(".", "_"), text)
    ends = [0, *(match.end() for match in _SENTENCE_END.finditer(masked) if not _goes_on(match)), len(text)]
    parts = (text[start:end].strip() for start, end in pairwise(ends))
    return [part for part in parts if _WORD.search(part)]


def _goes_on(end: re.Match[str]) -> bool:
    """Behind a quotation ("Stop!" is what he said), or three points, small letters go on with the sentence."""
    marks, closing, following = end.groups(default="")
    return (bool(closing) or marks in ("...", "…")) and following.islower()


def content_words(text: str) -> set[str]:
    """Different words that say something of the topic, without a plural's or a verb's s."""
    return {_singular(word) for word in words_of(text) if _is_content(word)}


def contains(text: str, phrases: list[str]) -> bool:
    """Whether one of the phrases stands in the text, whatever their case and punctuation."""
    padded = f" {' '.join(words_of(text))} "
    return any(f" {' '.join(words_of(phrase))} " in padded for phrase in phrases)


def begins_with(text: str, phrases: list[str]) -> bool:
    """Whether the text begins with one of the phrases, whatever their case and punctuation."""
    padded = f"{' '.join(words_of(text))} "
    return any(padded.startswith(f"{' '.join(words_of(phrase))} ") for phrase in phrases)


def _is_content(word: str) -> bool:
    stem = re.sub(r"(?:n't|'\w+)$", "", word)  # don't, it's, we'll, the cat's
    return len(stem) > 1 and stem not in FUNCTION_WORDS


def _singular(word: str) -> str:
    word = word.removesuffix("'s")
    for ending, instead in _PLURALS.items():
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word.removesuffix(ending) + instead
    return word
