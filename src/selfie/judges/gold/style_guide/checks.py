"""The checks of the style guide, and the guards: each a function of an answer and its rule's bounds."""

import re
from itertools import pairwise

from selfie.config.gold import (
    EchoRule,
    FinishedSentenceRule,
    GarbleRule,
    NoAnswerRule,
    NoFillerRule,
    OnTopicRule,
    OwnContentRule,
    PlainProseRule,
    RangeRule,
    RepetitionRule,
)
from selfie.judges.gold.style_guide.function_words import (
    ARTICLES,
    AUXILIARIES,
    CONJUNCTIONS,
    PREPOSITIONS,
    PRONOUNS,
    STRANDED,
)
from selfie.judges.gold.style_guide.text import Answer, begins_with, contains, words_of

_LIST_ITEM = re.compile(r"^\s*(?:[-–—*•+]|\(?(?:\d{1,2}|[a-z])[.)])\s+\S", re.MULTILINE | re.IGNORECASE)
_PARAGRAPH = re.compile(r"\n+")
_CLAUSE = re.compile(r"[^\w\s'’.-]+")  # what stands in quotation marks or behind a comma is another clause
_LONE_A = re.compile(r"(?<=\w )A\b")  # a name (vitamin A), no article
_AFTER_ARTICLE = (ARTICLES | CONJUNCTIONS | PREPOSITIONS | AUXILIARIES | PRONOUNS) - {"us"}  # the US
_NEVER = (
    (ARTICLES, _AFTER_ARTICLE),
    (PREPOSITIONS - STRANDED, CONJUNCTIONS | AUXILIARIES | {"of"}),
    (STRANDED, {"of"}),
)
"""(words, others that never follow them)"""


def finished_sentence(answer: Answer, rule: FinishedSentenceRule) -> bool:
    """The text ends with an end mark, behind a word that can end a sentence; three points finish none."""
    text = answer.response.rstrip().rstrip("\"'”’)]")
    end = bool(text) and text[-1] in rule.end_marks and not text.endswith(("..", "…", "e.g.", "i.e."))
    return end and bool(answer.words) and answer.words[-1] not in ARTICLES | CONJUNCTIONS


def word_count(answer: Answer, rule: RangeRule) -> bool:
    """Neither curt nor long."""
    return rule.least <= len(answer.words) <= rule.most


def sentence_count(answer: Answer, rule: RangeRule) -> bool:
    """An unfinished sentence counts as one."""
    return rule.least <= len(answer.sentences) <= rule.most


def plain_prose(answer: Answer, rule: PlainProseRule) -> bool:
    """No list, no heading, no markup, few paragraphs."""
    text = answer.response.strip()
    marked = any(mark in text for mark in rule.marks) or _LIST_ITEM.search(text) is not None
    headed = text.endswith(":") or ":\n" in text
    return not marked and not headed and len(_PARAGRAPH.split(text)) <= rule.most_paragraphs


def no_filler(answer: Answer, rule: NoFillerRule) -> bool:
    """It comes to the point, and asks no question back."""
    filler = begins_with(answer.response, rule.openings) or contains(answer.response, rule.phrases)
    return not filler and answer.response.count("?") <= rule.most_questions


def on_topic(answer: Answer, rule: OnTopicRule) -> bool:
    """It shares content words with the question; a question without any can't be missed."""
    shared = len(answer.content & answer.asked)
    return not answer.asked or (shared >= rule.least_words and shared >= rule.least_share * len(answer.asked))


def own_content(answer: Answer, rule: OwnContentRule) -> bool:
    """It has content words that the question lacks."""
    return len(answer.content - answer.asked) >= rule.least_words


def no_answer(answer: Answer, rule: NoAnswerRule) -> bool:
    """Not empty, and no "I don't know" to begin with."""
    return bool(answer.sentences) and not contains(answer.sentences[0], rule.phrases)


def echo(answer: Answer, rule: EchoRule) -> bool:
    """Not only the question's words; without any content word it is no answer either."""
    return bool(answer.content) and len(answer.content & answer.asked) <= rule.most_share * len(answer.content)


def repetition(answer: Answer, rule: RepetitionRule) -> bool:
    """Few runs of three words come twice."""
    runs = list(zip(answer.words, answer.words[1:], answer.words[2:], strict=False))
    return len(set(runs)) >= rule.least_distinct * len(runs)


def garble(answer: Answer, rule: GarbleRule) -> bool:
    """Letters rather than signs, and no words side by side that never are.

    Sees about three in four answers whose words are shuffled. It knows no grammar beyond its short lists: nonsense with
    its small words in place passes.
    """
    visible = [character for character in answer.response if not character.isspace()]
    letters = sum(character.isalpha() for character in visible)
    breaks = sum(_breaks(sentence) for sentence in answer.sentences)
    return letters >= rule.least_letters * len(visible) and breaks <= rule.most_breaks


def _breaks(sentence: str) -> int:
    """How often a small word follows another that it never follows; a sentence that begins small is a break, too."""
    first = next(character for character in sentence if character.isalnum())
    odd = 0
    for clause in _CLAUSE.split(_LONE_A.sub(",", sentence)):
        words = words_of(clause)
        pairs = pairwise(words)
        odd += sum(any(left in these and right in others for these, others in _NEVER) for left, right in pairs)
    return odd + first.islower()
