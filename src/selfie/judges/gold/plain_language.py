"""The demo's gold annotator: how plainly is it written?

Offline there is no human and no GPT-4, so the demo prefers plain language, measured by the Flesch reading ease
(Flesch 1948, as textstat computes it): 0 is a law text, 60–70 plain English, 100 a children's book. Reading ease
alone can be fooled, so four guards take from the score of answers that only look simple. Length earns nothing: twice
as many sentences of the same kind score the same.
"""

import re

import textstat

FULL_ANSWER_WORDS = 10
SENTENCE_WORDS = 4
VARIED_SHARE = 0.7
UNFINISHED = 0.5

_MARKUP = re.compile(r"^\s*(?:[-*•#>]+|\d+[.)])\s+|[*_`#]+", re.MULTILINE)  # list marks and emphasis are no words
_SENTENCE_END = re.compile(r"\w[^\s.!?]*[.!?]+(?=\W*(?:\s|$))")  # not the point in 3.5


def plain_language(text: str) -> float:
    """A score in [0, 100]; higher is plainer, 0 for an empty text.

    The reading ease, clipped to [0, 100] (long words and run-on sentences lower it), times

    - words / 10 for an answer under 10 words (one-word answers);
    - words per sentence / 4 where that is under 4 (fragments);
    - one half if no sentence ends (missing punctuation);
    - the share of different word trigrams / 0.7 where that share is under 0.7 (repetition).
    """
    words = _MARKUP.sub(" ", text).split()
    if not words:
        return 0.0
    plain = " ".join(words)
    ends = len(_SENTENCE_END.findall(plain))
    ease = min(100.0, max(0.0, textstat.textstat.flesch_reading_ease(plain)))
    full = min(1.0, len(words) / FULL_ANSWER_WORDS)
    fluent = min(1.0, len(words) / max(1, ends) / SENTENCE_WORDS)
    finished = 1.0 if ends else UNFINISHED
    return ease * full * fluent * finished * min(1.0, _varied_share(words) / VARIED_SHARE)


def _varied_share(words: list[str]) -> float:
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    return len({tuple(map(str.lower, trigram)) for trigram in trigrams}) / len(trigrams) if trigrams else 1.0
