"""Do the answers still differ from one another, and within themselves?"""

from collections.abc import Iterator, Sequence
from itertools import chain
from statistics import mean

REPEATED = 4  # words


def distinct(texts: Sequence[str], n: int) -> float | None:
    """distinct-n (Li et al., arXiv 1510.03055): different word n-grams over all n-grams of all texts, in [0, 1].

    It falls as texts get longer, whatever they say: compare answers of like length. None without a single n-gram.
    """
    ngrams = list(chain.from_iterable(_ngrams(text, n) for text in texts))
    return len(set(ngrams)) / len(ngrams) if ngrams else None


def repetition(texts: Sequence[str]) -> float | None:
    """seq-rep-4 (Welleck et al., arXiv 1908.04319): the mean share of a text's word 4-grams that it has said before.

    In [0, 1]; texts of fewer than four words are left out. None if all are.
    """
    repeated = []
    for text in texts:
        ngrams = list(_ngrams(text, REPEATED))
        if ngrams:
            repeated.append(1 - len(set(ngrams)) / len(ngrams))
    return mean(repeated) if repeated else None


def _ngrams(text: str, n: int) -> Iterator[tuple[str, ...]]:
    words = text.lower().split()
    return zip(*(words[first:] for first in range(n)), strict=False)
