"""Which prompts, and which two of their responses, are worth a human's label. Pure functions of texts and numbers."""

from collections.abc import Sequence

import numpy as np
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import TfidfVectorizer

NGRAMS = (3, 5)


def random_prompts(count: int, budget: int, seed: int) -> list[int]:
    """``budget`` of ``count`` prompts at random, as sorted positions; all of them where there are no more."""
    chosen = np.random.default_rng(seed).permutation(count)[:budget]
    return sorted(chosen.tolist())


def diverse_prompts(texts: Sequence[str], budget: int, seed: int) -> list[int]:
    """The prompts in the middle of ``budget`` lexical clusters, as sorted positions.

    Texts are compared by the TF-IDF weights of their character n-grams (3 to 5 characters inside of words, so that
    scripts without spaces count as well) and fall into clusters by k-means; of each cluster the text nearest to the
    centre is chosen. Texts that are alike leave fewer clusters than the budget; the rest is drawn at random.

    Args:
        texts: the prompts.
        budget: how many to choose at most.
        seed: of the clusters' starting points and of the rest.
    """
    if budget >= len(texts):
        return list(range(len(texts)))
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=NGRAMS, sublinear_tf=True)
    weights = vectorizer.fit_transform([f"{text} " for text in texts])
    clusters = min(budget, len(set(texts)))
    distances = KMeans(clusters, n_init=1, random_state=seed % 2**32).fit(weights).transform(weights)
    nearest = {int(np.argmin(distances[:, cluster])) for cluster in range(clusters)}
    others = [number for number in random_prompts(len(texts), len(texts), seed) if number not in nearest]
    rest = random_prompts(len(others), budget - len(nearest), seed)
    return sorted([*nearest, *(others[number] for number in rest)])


def smallest_margins(margins: Sequence[float], budget: int) -> list[int]:
    """Positions of the ``budget`` smallest margins, the smallest first; of equal ones the earlier."""
    return np.argsort(np.abs(np.asarray(margins, dtype=np.float64)), kind="stable")[:budget].tolist()


def first_two(responses: Sequence[str]) -> tuple[int, int] | None:
    """Positions of the first response and of the first that differs from it beyond white space; None without one."""
    for number, response in enumerate(responses):
        if response.strip() != responses[0].strip():
            return 0, number
    return None
