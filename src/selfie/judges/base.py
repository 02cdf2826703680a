"""Putting questions to a judge: what it has answered before is not asked again, and what fails is counted.

A judge answers questions of one kind (a comparison of two answers, a conversation to grade), in any order. The
machinery around it is here: the cache, the failures, and when there are too many of them.
"""

import logging
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

from tqdm.auto import tqdm

from selfie.errors import UserError
from selfie.storage.annotation_cache import AnnotationCache, cache_key

logger = logging.getLogger(__name__)

Question_contra = TypeVar("Question_contra", contravariant=True)


@dataclass(frozen=True)
class Verdict:
    """What a judge says.

    ``value`` is a preference in [1, 2] (1: the first answer is better for sure, 2: the second, 1.5: a draw) or a grade
    in [1, 10]; None where there is no verdict, whose ``failure`` then names the kind of reason and ``detail`` what was
    seen.
    """

    value: float | None
    failure: str | None = None
    detail: str = ""
    scores: tuple[float, float] | None = None
    """Of both answers, where the judge scores them one by one."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    price: float | None = None
    """Dollars."""


Verdicts = Generator[tuple[int, Verdict], None, None]
"""Positions of questions with their verdicts, as they come in."""


class Judge(Protocol[Question_contra]):
    """Answers questions (dataclasses)."""

    @property
    def name(self) -> str:
        """What annotations call it."""
        ...

    @property
    def identity(self) -> dict[str, Any] | None:
        """All that its verdicts depend on beside the question; None if they are not worth keeping."""
        ...

    def judge(self, questions: Sequence[Question_contra]) -> Verdicts:
        """Position and verdict of each question, in any order, as they come in."""
        ...


def ask(
    judge: Judge[Any], questions: Sequence[Any], cache: AnnotationCache | None, max_failures: float
) -> list[Verdict]:
    """A verdict for each question, from the cache or the judge; equal questions are asked once.

    Args:
        judge: who answers.
        questions: dataclasses of the kind that it takes.
        cache: where verdicts are looked up and kept; a failure never is, so that the next run asks again.
        max_failures: share of the different questions that may fail.

    Raises:
        UserError: more failed. It is raised as soon as that is certain; what was answered is in the cache.
    """
    identity = judge.identity
    keys = [cache_key(judge=identity, **_content(question)) for question in questions]
    total = len(set(keys))
    verdicts: dict[str, Verdict] = {}
    waiting: dict[str, Any] = {}
    for key, question in zip(keys, questions, strict=True):
        known = cache.get(key) if cache is not None and identity is not None else None
        if known is not None:
            verdicts[key] = Verdict(**known)
        else:
            waiting[key] = question
    if verdicts:
        logger.info("%d of %d verdicts of %s are in the cache", len(verdicts), total, judge.name)
    waiting_keys, failures = list(waiting), []
    try:
        with closing(judge.judge(list(waiting.values()))) as answers:
            shown = tqdm(answers, total=len(waiting), desc=f"judging by {judge.name}", disable=identity is None)
            for position, verdict in shown:
                verdicts[waiting_keys[position]] = verdict
                if verdict.failure is not None:
                    failures.append(verdict)
                    _check(judge.name, failures, total, max_failures)
                elif cache is not None and identity is not None:
                    cache.put(waiting_keys[position], asdict(verdict))
    finally:
        if cache is not None:
            cache.commit()
    if failures:
        logger.warning("%s", _describe(judge.name, failures, total))
    return [verdicts[key] for key in keys]


def _content(question: Any) -> dict[str, Any]:
    """The question's fields, those that it has."""
    return {name: value for name, value in asdict(question).items() if value is not None}


def _check(name: str, failures: list[Verdict], total: int, allowed: float) -> None:
    if len(failures) > allowed * total:
        raise UserError(
            f"the judge {name}",
            f"{_describe(name, failures, total)}: more than annotation.max_failures allows ({allowed:g})",
            "mend the judge and run again: only what it has not answered is asked again",
        )


def _describe(name: str, failures: list[Verdict], total: int) -> str:
    kinds = ", ".join(f"{kind} {count}" for kind, count in Counter(str(f.failure) for f in failures).most_common())
    return f"{len(failures)} of {total} questions to {name} failed ({kinds}; last: {failures[-1].detail})"
