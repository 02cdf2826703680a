"""Pairwise annotations in AlpacaEval's format, by any annotator: order of the answers, cache, failures."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from selfie.errors import DataError
from selfie.evaluation.alpaca_files import DRAW, Record
from selfie.judges.base import Verdict, ask
from selfie.judges.comparisons import Annotator, Comparison
from selfie.runtime.random_seeds import derive_seed
from selfie.storage.annotation_cache import AnnotationCache

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AnnotationOptions:
    """How an annotator is asked; see :class:`selfie.config.parameters.AnnotationParameters`."""

    order: Literal["both", "random"] = "both"
    max_failures: float = 1.0
    seed: int = 0


def annotate(
    outputs: Sequence[Record],
    baseline: Sequence[Record],
    annotator: Annotator,
    options: AnnotationOptions | None = None,
    cache: AnnotationCache | None = None,
) -> list[Record]:
    """Each answer against the baseline's to the same instruction.

    Args:
        outputs: AlpacaEval model outputs (``instruction``, ``output``, ``generator``); ``messages`` where the
            instruction is a conversation of several turns.
        baseline: the same of the baseline.
        annotator: who compares. One that is paid for its verdicts (has an ``identity``) is not asked about two
            identical answers, which are a draw.
        options: order of the answers, threshold of failures, seed.
        cache: where verdicts are looked up and kept; a failure never is.

    Returns:
        AlpacaEval annotations: output 1 is the baseline's; ``preference`` is 1 if it is better, 2 if the model's is,
        1.5 for a draw, None with a ``failure`` where there is no verdict. Beside it ``preference_baseline_first`` and
        ``preference_model_first``, the verdict by the order in which the answers were shown, if order matters to the
        annotator; tokens and price, if it was an endpoint; ``score_1`` and ``score_2``, if it scores.
        ``index`` is the instruction's position in the baseline's outputs. Instructions that only one side answered are
        left out; one that comes twice is matched in order.

    Raises:
        DataError: the two sides have no instruction in common.
        UserError: more than ``max_failures`` of the questions failed; what was answered is in the cache.
    """
    options = options or AnnotationOptions()
    pairs = match_answers(outputs, baseline)
    questions: dict[tuple[int, bool], Comparison] = {}
    for number, (_, theirs, ours) in enumerate(pairs):
        instruction, texts = ours["instruction"], (theirs["output"], ours["output"])
        messages = (theirs | ours).get("messages")
        if annotator.identity is None or texts[0] != texts[1]:
            for model_first in _orders(annotator, options, instruction, texts):
                questions[number, model_first] = Comparison(
                    instruction, *(texts[::-1] if model_first else texts), messages
                )
    answers = ask(annotator, list(questions.values()), cache, options.max_failures)
    verdicts = dict(zip(questions, answers, strict=True))
    return [
        {
            "index": index,
            "instruction": ours["instruction"],
            "generator_1": theirs["generator"],
            "output_1": theirs["output"],
            "generator_2": ours["generator"],
            "output_2": ours["output"],
            "annotator": annotator.name,
            **_judgment(annotator, verdicts.get((number, False)), verdicts.get((number, True))),
        }
        for number, (index, theirs, ours) in enumerate(pairs)
    ]


def match_answers(outputs: Sequence[Record], baseline: Sequence[Record]) -> list[tuple[int, Record, Record]]:
    """(index, baseline's record, model's record) of the instructions that both answered.

    One that comes twice is matched in order; what only one side answered is left out, and counted in the log.

    Raises:
        DataError: the two sides have no instruction in common.
    """
    answers: dict[str, list[tuple[int, Record]]] = defaultdict(list)
    for index, record in enumerate(baseline):
        answers[record["instruction"]].append((index, record))
    pairs = [
        (*answers[record["instruction"]].pop(0), record) for record in outputs if answers.get(record["instruction"])
    ]
    if outputs and not pairs:
        raise DataError(
            "the answers to compare",
            "the baseline answers none of their instructions",
            "compare answers to the same instructions",
        )
    if len(pairs) < max(len(outputs), len(baseline)):
        logger.warning(
            "%d of the model's %d answers and %d of the baseline's %d are to instructions that the other side did not "
            "answer (as often), and are left out",
            len(outputs) - len(pairs),
            len(outputs),
            len(baseline) - len(pairs),
            len(baseline),
        )
    return pairs


def _orders(annotator: Annotator, options: AnnotationOptions, instruction: str, texts: tuple[str, str]) -> list[bool]:
    """Whether the model's answer comes first, for each time that the comparison is asked."""
    if not annotator.depends_on_order:
        return [False]
    if options.order == "both":
        return [False, True]
    return [derive_seed(options.seed, "order", instruction, *texts) % 2 == 1]


def _judgment(annotator: Annotator, baseline_first: Verdict | None, model_first: Verdict | None) -> Record:
    """From one or both orders, or of two identical answers, which are a draw without being asked about."""
    asked = [verdict for verdict in (baseline_first, model_first) if verdict is not None]
    failed = next((verdict for verdict in asked if verdict.failure), None)
    first = None if baseline_first is None else baseline_first.value
    second = None if model_first is None or model_first.value is None else 3 - model_first.value
    given = [preference for preference in (first, second) if preference is not None]
    judgment: Record = {"preference": None if failed else sum(given) / len(given) if given else DRAW}
    if failed:
        judgment["failure"] = str(failed.failure)
    if annotator.depends_on_order:
        judgment |= {"preference_baseline_first": first, "preference_model_first": second}
    if any(verdict.prompt_tokens for verdict in asked):
        judgment["prompt_tokens"] = sum(verdict.prompt_tokens for verdict in asked)
        judgment["completion_tokens"] = sum(verdict.completion_tokens for verdict in asked)
    prices = [verdict.price for verdict in asked if verdict.price is not None]
    if prices:
        judgment["price_per_example"] = sum(prices)
    if asked and asked[0].scores:
        judgment["score_1"], judgment["score_2"] = asked[0].scores
    return judgment
