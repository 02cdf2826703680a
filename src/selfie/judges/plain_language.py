"""The demo's gold annotator: how plainly is it written?

Offline there is no human and no GPT-4, so the demo prefers plain language, measured by the Flesch reading ease
(Flesch 1948, as textstat computes it): 0 is a law text, 60–70 plain English, 100 a children's book. Reading ease
alone can be fooled, so only whole sentences count and three guards take from the score. Length earns nothing: twice
as many sentences of the same kind score the same.
"""

import re

import textstat

FULL_ANSWER_WORDS = 12
LONGEST_SENTENCE_WORDS = 40
SHORTEST_SENTENCE_WORDS = 4

_MARKUP = re.compile(r"^\s*(?:[-*•#>]+|\d+[.)])\s+|[*_`#]+", re.MULTILINE)
_SENTENCE = re.compile(r"[^.!?]+[.!?]+")


def plain_language(text: str) -> float:
    """A score in [0, 100]; higher is plainer. 0 for a text without one whole sentence.

    The reading ease of the whole sentences, clipped to [0, 100], times

    - words / 12 for an answer under 12 words (one-word answers),
    - the share of its sentences that have 4 to 40 words (fragments and run-ons),
    - the share of its word trigrams that are different from each other (repetition).

    Text after the last ``.``, ``!`` or ``?`` is unfinished and does not count; list marks and other markup are no
    words.
    """
    sentences = [s.strip() for s in _SENTENCE.findall(_MARKUP.sub(" ", text)) if re.search(r"\w", s)]
    if not sentences:
        return 0.0
    lengths = [len(sentence.split()) for sentence in sentences]
    words = " ".join(sentences).lower().split()
    ease = min(100.0, max(0.0, textstat.textstat.flesch_reading_ease(" ".join(sentences))))
    full = min(1.0, len(words) / FULL_ANSWER_WORDS)
    well_formed = sum(SHORTEST_SENTENCE_WORDS <= n <= LONGEST_SENTENCE_WORDS for n in lengths) / len(lengths)
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    varied = len(set(trigrams)) / len(trigrams) if trigrams else 1.0
    return ease * full * well_formed * varied


def whole_sentences(text: str) -> str:
    """The text up to its last finished sentence; empty if it has none."""
    end = max(text.rfind(mark) for mark in ".!?")
    return text[: end + 1].strip()
