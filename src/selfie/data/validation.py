"""Data validation: the user's data sets are checked, each and against each other, before any model loads.

Each row is checked by its dataset (:mod:`selfie.datasets.records`). Here rows are compared between data sets: a prompt
that nearly repeats an evaluation prompt would make the evaluation a memory test, and one that nearly repeats a seed
has been trained on already. Rows that fail are set aside and listed; too many of them stop the run.

Near-duplicates are prompts whose word 3-grams have a Jaccard similarity of 0.8. scikit-learn's ``HashingVectorizer``
makes sparse matrices of them, whose product gives all similarities at once; those that it finds are computed again
without hashing. On 60,000 prompts of 120 words against 805 that took 6 s on one core; MinHash (datasketch 2.0, 128
permutations) took 11 s for an approximation, and would be one more dependency.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol
from unicodedata import name as character_name

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer
from transformers import PreTrainedTokenizerBase

from selfie.config.parameters import Parameters
from selfie.data.file_readers import Problem, Row
from selfie.data.stored_rows import StoredRows, without
from selfie.errors import DataError
from selfie.models.chat_template import render

# Of each pair, the first keeps its rows: evaluation stays what it is.
COMPARED = (
    ("evaluation_prompts", "seed_preferences"),
    ("evaluation_prompts", "prompts"),
    ("evaluation_prompts", "seed_prompts"),
    ("heldout_preferences", "seed_preferences"),
    ("heldout_preferences", "prompts"),
    ("heldout_preferences", "seed_prompts"),
    ("seed_preferences", "prompts"),
)
PAIRS = ("seed_preferences", "heldout_preferences")
SIMILAR = 0.8  # Jaccard; the usual threshold for near-duplicates (Lee et al. 2022, arXiv 2107.06499)
COMPARED_CHARACTERS = 2000
NGRAM = 3
BLOCK = 256  # rows of a block of the similarity matrix: its memory
PART = 8192  # its columns: rows that are compared at once
BUCKETS = 2**20
COLLISIONS = 0.05  # what two n-grams in one bucket can take from a similarity
_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
# A word, or one character of a script that writes no spaces (Thai, Lao, Burmese, Khmer, Kana, Han).
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
FAR = 3.0  # interquartile ranges beyond the quartiles, on a logarithmic scale (Tukey's outer fences)
SCRIPT_CHARACTERS = 200


class Records(Protocol):
    """A user's data, row by row; see :class:`selfie.datasets.RecordDataset`."""

    @property
    def source(self) -> str:
        """What messages call it."""
        ...

    def inspect(self) -> tuple[StoredRows, list[Problem]]:
        """The rows that can be used alone, and what is wrong with others or between rows."""
        ...

    def set_aside(self, rows: Iterable[int]) -> None:
        """Rows, by number, to leave out from now on."""
        ...

    def refusal(self, problems: list[Problem]) -> DataError:
        """The error that names the first of the problems in full."""
        ...


class SetAside(NamedTuple):
    """A row that the run does not use, and why."""

    dataset: str
    file: str
    row: int
    reason: str


def screen(
    datasets: Mapping[str, Records], parameters: Parameters, tokenizer: PreTrainedTokenizerBase | None
) -> tuple[dict[str, StoredRows], list[SetAside]]:
    """Checks rows alone and between data sets, and tells the datasets which ones to leave out.

    Args:
        datasets: the user's, by their names in the catalog.
        parameters: ``max_set_aside`` is the share of a data set's rows that may fail; rows that merely repeat one
            and prompts that are too long don't count.
        tokenizer: the initial model's, where it is there already.

    Returns:
        The rows that are left of each data set, and those that the run does not use.

    Raises:
        DataError: a file can't be read, or more rows fail than may.
    """
    rows, problems = {}, {}
    for name, dataset in datasets.items():
        rows[name], problems[name] = dataset.inspect()
        rows[name] = _without(rows[name], problems[name])
    for other in dict.fromkeys(other for _, other in COMPARED):
        against = [name for name, compared in COMPARED if compared == other and rows.get(name)]
        if rows.get(other) and against:
            staying = {name: _staying(name, rows[name], problems[name], parameters) for name in against}
            kept = [_Kept(name, left, _ngrams(map(_text, left))) for name, left in staying.items() if left]
            problems[other] += _leaks(kept, rows[other])
    set_aside = []
    for name, dataset in datasets.items():
        rows[name] = _without(rows[name], problems[name])
        long = list(_too_long(name, rows[name], tokenizer, parameters)) if tokenizer else []
        if name in PAIRS:
            problems[name] += long
            rows[name] = _without(rows[name], long)
        _check_share(dataset, len(rows[name]), problems[name], parameters.max_set_aside)
        dataset.set_aside(problem.row for problem in problems[name])
        unused = sorted({*problems[name], *long})
        set_aside += [SetAside(name, dataset.source, problem.row, problem.problem) for problem in unused]
    return rows, set_aside


def _without(rows: StoredRows, problems: Iterable[Problem]) -> StoredRows:
    return without(rows, {problem.row for problem in problems})


def _check_share(dataset: Records, kept: int, problems: list[Problem], limit: float) -> None:
    fatal = [problem for problem in problems if problem.fatal]
    failed, total = len({problem.row for problem in fatal}), kept + len({problem.row for problem in problems})
    if failed > limit * total:
        error = dataset.refusal(fatal)
        share = f"{failed} of {total} rows can't be used, more than max_set_aside allows ({limit:.0%})"
        raise DataError(error.where, f"{error.problem}. {share}", error.remedy)
    if not kept:
        raise DataError(dataset.source, "no row is left", "bring more rows")


class _Kept(NamedTuple):
    """A data set that keeps its rows, with their n-grams."""

    name: str
    rows: StoredRows
    ngrams: Any


def _staying(name: str, rows: StoredRows, problems: list[Problem], parameters: Parameters) -> StoredRows:
    """A row that is left out keeps no other out, nor does a seed pair that is never trained on."""
    rows = _without(rows, problems)
    return rows[: parameters.seed_pairs] if name == "seed_preferences" else rows


def _leaks(kept: list[_Kept], others: StoredRows) -> Iterator[Problem]:
    """Rows of ``others`` whose n-grams nearly repeat those of a row that is kept, of the first such data set."""
    for first in range(0, len(others), PART):
        part = others[first : first + PART]
        ngrams = _ngrams(map(_text, part))
        found: dict[int, str] = {}
        for dataset in kept:
            for other, mine in _near(dataset, part, ngrams).items():
                found.setdefault(other, f"row {dataset.rows[mine]['row']} of {dataset.name}")
        for other in sorted(found):
            problem = f"its prompt nearly repeats {found[other]}"
            yield Problem(part[other]["row"], problem, "remove it from one")


def _near(kept: _Kept, others: StoredRows, ngrams: Any) -> dict[int, int]:
    """Places in ``others`` that nearly repeat a row that is kept, with the first such one's place."""
    sizes, columns = np.asarray(ngrams.sum(axis=1)).ravel(), ngrams.T.tocsr()
    found: dict[int, int] = {}
    for first in range(0, len(kept.rows), BLOCK):
        block = kept.ngrams[first : first + BLOCK]
        shared = (block @ columns).tocoo()
        union = np.asarray(block.sum(axis=1)).ravel()[shared.row] + sizes[shared.col] - shared.data
        near = shared.data >= (SIMILAR - COLLISIONS) * union
        for mine, other in zip(shared.row[near].tolist(), shared.col[near].tolist(), strict=True):
            if other not in found and _similarity(kept.rows[first + mine], others[other]) >= SIMILAR:
                found[other] = first + mine
    return found


def _similarity(first: Row, second: Row) -> float:
    """Jaccard similarity of the prompts' n-grams: what the hashed ones make likely, without their collisions."""
    ours, theirs = (
        set(zip(*(words[start:] for start in range(NGRAM)), strict=False))
        for words in (_words(_text(row).lower()) for row in (first, second))
    )
    return len(ours & theirs) / len(ours | theirs)


def _text(row: Row) -> str:
    """The conversation without its system prompt, which many rows may share."""
    return " ".join(turn["content"] for turn in row["messages"] if turn["role"] != "system")[:COMPARED_CHARACTERS]


def _ngrams(texts: Iterable[str]) -> Any:
    """Rows × hashed word n-grams, 0 or 1."""
    vectorizer = HashingVectorizer(
        n_features=BUCKETS,
        binary=True,
        norm=None,
        alternate_sign=False,
        dtype=np.int32,
        ngram_range=(NGRAM, NGRAM),
        tokenizer=_words,
        token_pattern=None,
    )
    return vectorizer.transform(texts)


def _words(text: str) -> list[str]:
    """Texts of fewer words are filled up, so that each has an n-gram."""
    words = _WORD.findall(text) or [text.strip()]
    return words + ["_"] * (NGRAM - len(words))


def _too_long(
    name: str, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, parameters: Parameters
) -> Iterator[Problem]:
    """Prompts that leave no room for a response. Only those with more bytes than room for tokens are tokenised.

    Pairs are set aside for it. Prompts are told and left out by sampling, as ever: how they are dealt to iterations
    must not depend on whether the model is there yet.
    """
    new_tokens = {
        "prompts": parameters.generation.max_new_tokens,
        "seed_prompts": parameters.generation.max_new_tokens,
        "evaluation_prompts": parameters.evaluation.max_new_tokens,
    }
    room = parameters.max_length - new_tokens.get(name, 1)
    template = len(render(tokenizer, [{"role": "user", "content": "x"}]))
    for row in rows:
        size = sum(len(message["content"].encode()) + template for message in row["messages"])
        if size > room and (length := len(render(tokenizer, row["messages"]))) > room:
            problem = f"the prompt has {length} tokens; max_length leaves room for {room}"
            remedy = f"shorten it, or raise the parameter max_length ({parameters.max_length})"
            yield Problem(row["row"], problem, remedy)


def outliers(name: str, rows: Sequence[Row]) -> list[str]:
    """What is odd about some rows and may be meant: lengths far from the others', another script than the others'."""
    return [*_odd_lengths(name, rows), *_odd_scripts(name, rows)]


def _odd_lengths(name: str, rows: Sequence[Row]) -> Iterator[str]:
    for field in [field for field in ("prompt", "chosen", "rejected") if field == "prompt" or field in rows[0]]:
        lengths = np.array([len(_text(row) if field == "prompt" else row[field]) for row in rows])
        low, high = np.percentile(np.log(lengths), (25, 75))
        margin = FAR * max(high - low, np.log(2) / FAR)  # rows all alike would make any other one odd
        for what, odd in (("short", np.log(lengths) < low - margin), ("long", np.log(lengths) > high + margin)):
            if odd.any():
                worst = int(np.argmin(lengths) if what == "short" else np.argmax(lengths))
                yield (
                    f"{name}: {odd.sum()} of {len(rows)} rows have an unusually {what} {field}; row "
                    f"{rows[worst]['row']} has {lengths[worst]:,} characters, the median is {np.median(lengths):,.0f}"
                )


def _odd_scripts(name: str, rows: Sequence[Row]) -> Iterator[str]:
    scripts = [_script(_text(row)) for row in rows]
    common = Counter(scripts).most_common(1)[0][0]
    others = [(script, row["row"]) for script, row in zip(scripts, rows, strict=True) if script not in (common, None)]
    if common and others:
        script, row = others[0]
        yield (
            f"{name}: {len(others)} of {len(rows)} rows are written in another script than {common.title()}; "
            f"row {row} in {script.title()}"
        )


def _script(text: str) -> str | None:
    """The script of most of the letters, by their Unicode names; a cheap sign of the language."""
    counts = Counter(filter(None, map(_script_of, text[:SCRIPT_CHARACTERS])))
    return counts.most_common(1)[0][0] if counts else None


@lru_cache(maxsize=2**16)
def _script_of(character: str) -> str | None:
    return character_name(character, "").split(maxsplit=1)[0] if character.isalpha() else None
