"""A gold annotator for exact instructions: an answer scores 1 if it does what the end of its prompt asks, else 0.

A prompt is a question, then one instruction in a fixed wording. There are nine kinds, each with a function that tells
whether an answer obeys. Six are in the prompts of training; three are kept for evaluation, so that a policy that learnt
to obey is told from one that learnt six forms. The kinds resemble some of IFEval's (Zhou et al., arXiv 2311.07911);
wording and checks are this project's, and IFEval itself stays an outside test.

An answer that fails one of the style guide's guards (empty, the question again, repetitive, garbled) obeys nothing.
What this annotator does not see: whether an answer is true, or to the point.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from selfie.config.gold import GuardParameters
from selfie.errors import DataError
from selfie.judges.gold.style_guide import is_sound
from selfie.judges.gold.style_guide.text import Answer, begins_with, contains

_BULLET = re.compile(r"^[^\S\n]*-[^\S\n]*[^\s-]", re.MULTILINE)
_NUMBER = re.compile(r"^\s*(\d{1,2})[.)]\s+\S", re.MULTILINE)


def bullets(answer: Answer, asked: str) -> bool:
    """As many lines as asked begin with "-" and have more than that; other lines may stand around them."""
    return len(_BULLET.findall(answer.response)) == int(asked)


def numbered(answer: Answer, asked: str) -> bool:
    """Lines begin with 1., 2. and so on up to the number asked, in order and none twice."""
    return list(map(int, _NUMBER.findall(answer.response))) == list(range(1, int(asked) + 1))


def most_words(answer: Answer, asked: str) -> bool:
    """No more words than asked."""
    return len(answer.words) <= int(asked)


def sentences(answer: Answer, asked: str) -> bool:
    """As many sentences as asked; an unfinished one counts."""
    return len(answer.sentences) == int(asked)


def begins(answer: Answer, asked: str) -> bool:
    """The answer begins with these words, whatever their case and punctuation."""
    return begins_with(answer.response, [asked])


def includes(answer: Answer, asked: str) -> bool:
    """The word is in the answer, whatever its case."""
    return contains(answer.response, [asked])


def no_commas(answer: Answer, _asked: str) -> bool:
    """There is no comma."""
    return "," not in answer.response


def excludes(answer: Answer, asked: str) -> bool:
    """The word is not in the answer, whatever its case."""
    return not contains(answer.response, [asked])


def question(answer: Answer, _asked: str) -> bool:
    """The last character but for closing quotation marks and white space is a question mark."""
    return answer.response.rstrip().rstrip("\"'”’)").endswith("?")


@dataclass(frozen=True)
class Kind:
    """A kind of instruction."""

    obeys: Callable[[Answer, str], bool]
    """(answer, what is asked: a number, words or nothing) → whether it obeys."""
    wordings: tuple[str, ...]
    """Whole sentences; ``{}`` stands for what is asked."""

    def write(self, number: int, asked: str) -> str:
        """The instruction in one of its wordings, the ``number``-th of them in turn."""
        return self.wordings[number % len(self.wordings)].format(asked)

    def asked(self, prompt: str) -> str | None:
        """What the prompt's last sentence asks, "" where its wording says all; None: it is of another kind."""
        found = self._pattern.search(prompt)
        return None if found is None else "".join(filter(None, found.groups()))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """Any of the wordings; words stand in quotation marks, and numbers do not."""
        written = (
            re.escape(wording).replace(r'"\{\}"', '"([^"]+)"').replace(r"\{\}", r"(\d+)") for wording in self.wordings
        )
        return re.compile(rf"(?:{'|'.join(written)})\s*$")


SEEN = {
    "bullets": Kind(
        bullets,
        (
            'Answer with {} bullet points, each on a line that begins with "-".',
            'Write exactly {} lines that begin with "-".',
        ),
    ),
    "numbered": Kind(numbered, ("Answer with a numbered list of {} points.", "Number your points from 1 to {}.")),
    "most_words": Kind(most_words, ("Use at most {} words.", "Your answer must not be longer than {} words.")),
    "sentences": Kind(sentences, ("Answer in exactly {} sentences.", "Your answer must have exactly {} sentences.")),
    "begins": Kind(begins, ('Begin your answer with the words "{}".', 'The first words of your answer must be "{}".')),
    "includes": Kind(includes, ('Use the word "{}" in your answer.', 'Your answer must contain the word "{}".')),
}
"""Kinds in the prompts of training and of evaluation, by name."""
UNSEEN = {
    "no_commas": Kind(no_commas, ("Do not use any commas.", "Your answer must not contain a comma.")),
    "excludes": Kind(excludes, ('Do not use the word "{}".',)),
    "question": Kind(question, ("End your answer with a question.",)),
}
"""Kinds in the prompts of evaluation alone, by name."""
KINDS = SEEN | UNSEEN


class Instructions:
    """A scorer: 1 for an answer that obeys its prompt's instruction and passes the guards, else 0."""

    def __init__(self, guards: GuardParameters):
        self._guards = guards

    def __call__(self, prompt: str, response: str) -> float:
        """1 or 0."""
        return float(all(self.checks(prompt, response).values()))

    def checks(self, prompt: str, response: str) -> dict[str, bool]:
        """The instruction's kind → whether the answer obeys.

        Raises:
            DataError: the prompt ends with no instruction of a known kind.
        """
        answer = Answer(prompt, response)
        name, asked = instruction_of(prompt)
        return {name: is_sound(answer, self._guards) and KINDS[name].obeys(answer, asked)}

    def part(self, prompt: str) -> str:
        """``seen_kinds`` or ``unseen_kinds``: whether training has the prompt's kind of instruction."""
        return "seen_kinds" if instruction_of(prompt)[0] in SEEN else "unseen_kinds"


def instruction_of(prompt: str) -> tuple[str, str]:
    """The kind of instruction that a prompt ends with, and what it asks.

    Raises:
        DataError: it ends with none.
    """
    for name, kind in KINDS.items():
        asked = kind.asked(prompt)
        if asked is not None:
            return name, asked
    raise DataError(
        f"the prompt {prompt!r:.100}",
        "it ends with no instruction that the gold annotator `instructions` knows",
        "end it with one of the wordings in selfie.judges.gold.instructions, or choose another gold.annotator",
    )
