"""MT-Bench (Zheng et al., arXiv 2306.05685): two-turn questions, each answer graded from 1 to 10 by a language model.

The questions are the user's own copy of FastChat's `question.jsonl`; prompt and grading are ours, so the figures are
not the leaderboard's.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from datasets import Dataset

from selfie.config.parameters import JudgePrompt
from selfie.errors import DataError
from selfie.evaluation.alpaca_files import Record
from selfie.evaluation.mt_bench_questions import TURNS
from selfie.evaluation.win_rate import mean_interval
from selfie.generation.engine import Sampling
from selfie.generation.sampling import sample_responses
from selfie.judges.base import Verdict, Verdicts, ask
from selfie.judges.openai_api import Bill, fence, fill_prompt, judge_identity, price_of
from selfie.judges.openai_client import ChatClient, ChatFailureError, FailureKind
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import Arithmetic
from selfie.storage.annotation_cache import AnnotationCache
from selfie.storage.shards import Shards

GRADING_TOKENS = 512
_EXPECTED_TOKENS = 80  # two or three sentences, for the estimate
_RATING = re.compile(r"rating\W*?\[*(\d+(?:\.\d+)?)\]*(?:\s*/\s*10)?\W*$", re.IGNORECASE | re.MULTILINE)


def conversations(questions: Sequence[Record], answers: Sequence[Sequence[str]]) -> Dataset:
    """Prompts for the next turn: each question's turns so far with the answers to them.

    Args:
        questions: as in the file.
        answers: of each question, those to its earlier turns; one more turn is asked.
    """
    return Dataset.from_list(
        [
            {"prompt_id": f"mt_bench_{question['question_id']}", "messages": _messages(question["turns"], before)}
            for question, before in zip(questions, answers, strict=True)
        ]
    )


def answer_questions(
    questions: Sequence[Record],
    policy: Checkpoint,
    sampling: Sampling,
    *,
    engine: str,
    batch_tokens: int,
    max_length: int,
    seed: int,
    shards: Shards | None = None,
    arithmetic: Arithmetic = Arithmetic.FLOAT32,
) -> list[Record]:
    """The policy's ``answers`` to both turns of each question, the second in the light of the first.

    A turn that does not fit into ``max_length`` stays without an answer, and so does what comes after it.
    """
    answers: list[list[str]] = [[] for _ in questions]
    for turn in range(TURNS):
        asked = [position for position, given in enumerate(answers) if len(given) == turn]
        if not asked:
            break
        prompts = conversations([questions[i] for i in asked], [answers[i] for i in asked])
        rows = sample_responses(
            policy,
            prompts,
            1,
            sampling,
            engine=engine,
            batch_tokens=batch_tokens,
            max_length=max_length,
            purpose=f"mt_bench_turn_{turn + 1}",
            seed=seed,
            shards=shards.within(f"turn_{turn + 1}") if shards else None,
            arithmetic=arithmetic,
        )
        position_of = dict(zip(prompts["prompt_id"], asked, strict=True))
        for row in rows:
            answers[position_of[row["prompt_id"]]].append(row["response"])
    name = Path(policy.source).name
    return [
        {**question, "generator": name, "answers": given} for question, given in zip(questions, answers, strict=True)
    ]


@dataclass(frozen=True)
class GradedConversation:
    """A conversation as text, ending with the answer to be graded."""

    conversation: str
    fence: str


class Grader:
    """Asks the endpoint's model for a grade from 1 to 10."""

    def __init__(self, client: ChatClient, prompt: JudgePrompt):
        self.client, self.prompt = client, prompt
        self.name = str(client.parameters.model)
        self.identity = judge_identity(client, prompt)

    def judge(self, questions: Sequence[GradedConversation]) -> Verdicts:
        """The model's grades."""
        asked = [fill_prompt(self.prompt, {"conversation": q.conversation, "fence": q.fence}) for q in questions]
        bill = Bill(self.client)
        bill.estimate(asked, _EXPECTED_TOKENS)
        try:
            with closing(self.client.complete_all(asked, GRADING_TOKENS, log_probs=False)) as outcomes:
                for position, outcome in outcomes:
                    bill.add(outcome)
                    if isinstance(outcome, ChatFailureError):
                        yield position, Verdict(None, outcome.kind, outcome.detail)
                        continue
                    grade = read_grade(outcome.text)
                    yield (
                        position,
                        Verdict(
                            grade,
                            None if grade is not None else FailureKind.NO_VERDICT,
                            "" if grade is not None else repr(outcome.text[-100:]),
                            prompt_tokens=outcome.prompt_tokens,
                            completion_tokens=outcome.completion_tokens,
                            price=price_of(self.client, outcome.prompt_tokens, outcome.completion_tokens),
                        ),
                    )
        finally:
            bill.report()


def read_grade(text: str) -> float | None:
    """The number of the last line of the form "Rating: 7", if it is between 1 and 10."""
    found = _RATING.findall(text)
    grade = float(found[-1]) if found else 0.0
    return grade if 1 <= grade <= 10 else None  # noqa: PLR2004


def grade_answers(
    answers: Sequence[Record], grader: Grader, cache: AnnotationCache | None, max_failures: float
) -> list[Record]:
    """One row an answer: ``question_id``, ``category``, ``turn`` (1 or 2), ``grade`` (None with a ``failure``).

    Args:
        answers: ``question_id``, ``category``, ``turns``, ``answers`` (to as many turns as were answered).
        grader: who grades.
        cache: where grades are kept.
        max_failures: share of the answers that may stay without a grade.
    """
    rows = [(record, turn) for record in answers for turn in range(1, len(record["answers"]) + 1)]
    graded = ask(grader, [_as_text(record, turn) for record, turn in rows], cache, max_failures)
    return [
        {
            "question_id": record["question_id"],
            "category": record["category"],
            "turn": turn,
            "judge": grader.name,
            "grade": verdict.value,
            **({"failure": str(verdict.failure)} if verdict.failure else {}),
        }
        for (record, turn), verdict in zip(rows, graded, strict=True)
    ]


def mean_grades(grades: Sequence[Record], samples: int, seed: int) -> dict[str, Any]:
    """Means over the graded answers with 95% bootstrap intervals over questions.

    Returns:
        ``mt_bench`` and ``mt_bench_ci`` over all (a question's answers averaged first), the same for each turn
        (``mt_bench_turn_1``) and category (``mt_bench_writing``), and ``mt_bench_failures``.

    Raises:
        DataError: nothing was graded.
    """
    given = [row for row in grades if row["grade"] is not None]
    if not given:
        raise DataError("MT-Bench", "no answer was graded", "see the failures that the log names")
    groups: dict[str, list[Record]] = {"mt_bench": given}
    for row in given:
        groups.setdefault(f"mt_bench_turn_{row['turn']}", []).append(row)
        groups.setdefault(f"mt_bench_{row['category']}", []).append(row)
    metrics: dict[str, Any] = {"mt_bench_failures": len(grades) - len(given)}
    for name, rows in sorted(groups.items()):
        questions = defaultdict(list)
        for row in rows:
            questions[row["question_id"]].append(row["grade"])
        values = sorted(mean(grades_of_question) for grades_of_question in questions.values())
        metrics[name] = mean(values)
        metrics[f"{name}_ci"] = list(mean_interval(values, samples, seed))
    return metrics


def _messages(turns: Sequence[str], answers: Sequence[str]) -> list[dict[str, str]]:
    """The conversation up to the turn after the last answer."""
    messages = [{"role": "user", "content": turns[0]}]
    for answer, turn in zip(answers, turns[1:], strict=False):
        messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": turn}]
    return messages


def _as_text(record: Record, turn: int) -> GradedConversation:
    """Roles and texts, each after a mark that derives from all of them."""
    messages = _messages(record["turns"], record["answers"][: turn - 1])
    messages.append({"role": "assistant", "content": record["answers"][turn - 1]})
    mark = fence(*(message["content"] for message in messages))
    return GradedConversation("\n".join(f"{mark} {m['role']}\n{m['content']}" for m in messages), mark)
