"""Which prompts, and which two of their responses, are worth a human's label. Pure functions of texts and numbers."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import TfidfVectorizer

NGRAMS = (3, 5)


def random_prompts(count: int, budget: int, seed: int) -> list[int]:
    """``budget`` of ``count`` prompts, as positions in the order in which they are drawn; all if there are no more."""
    drawn: list[int] = np.random.default_rng(seed).permutation(count)[:budget].tolist()
    return drawn


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
    return sorted([*nearest, *others[: budget - len(nearest)]])


def worth_a_label(responses: Sequence[str], eligible: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Every two responses to a prompt, as positions, that can be told apart and of which either may be chosen.

    Args:
        responses: texts that differ only in white space can't be told apart.
        eligible: which of them may be chosen: all, or those that the token limit did not cut
            (``judging.choose_truncated``). Against one that may not, the label is known without a human.
    """
    for one, two in combinations(range(len(responses)), 2):
        if responses[one].strip() != responses[two].strip() and eligible[one] and eligible[two]:
            yield one, two


def largest_of_each(prompts: Sequence[int], values: np.ndarray) -> np.ndarray:
    """Each prompt's pair of the largest value, as sorted positions; of equal values the first.

    Args:
        prompts: the prompt of each pair, shape [pairs].
        values: shape [pairs].
    """
    order = np.argsort(-values, kind="stable")
    return np.sort(order[np.unique(np.asarray(prompts)[order], return_index=True)[1]])


def smallest_margins(margins: Sequence[float] | np.ndarray, budget: int) -> np.ndarray:
    """Positions of the ``budget`` smallest margins, the smallest first; of equal ones the earlier."""
    return np.argsort(np.abs(np.asarray(margins, dtype=np.float64)), kind="stable")[:budget]


def disagreement(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How far two judges contradict each other about each pair, shape [pairs]; no unit.

    Each judge's margins are divided by their root mean square, which makes them comparable; the smaller one in size is
    how sure both are. It counts as it is where they prefer different responses, and as negative where they prefer the
    same. So the largest value is the pair about which both are surest of opposite labels, and the smallest the one
    about which they are surest of the same label.

    Args:
        first: a judge's margins, the reward of a pair's first response less that of its second, shape [pairs].
        second: another judge's of the same pairs.
    """
    one, other = (_in_units_of_their_size(margins) for margins in (first, second))
    return -np.sign(one * other) * np.minimum(np.abs(one), np.abs(other))


def _in_units_of_their_size(margins: np.ndarray) -> np.ndarray:
    size = np.sqrt(np.mean(margins**2)) if len(margins) else 0.0
    return margins / size if size > 0 else margins
