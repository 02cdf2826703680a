"""Reading MT-Bench's `question.jsonl`."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from selfie.errors import DataError

TURNS = 2

Text = Annotated[str, Field(min_length=1)]


class Question(BaseModel):
    """A row."""

    question_id: int | str
    category: Text
    turns: Annotated[list[Text], Field(min_length=TURNS, max_length=TURNS)]


def read_questions(path: Path) -> list[dict[str, Any]]:
    """``question_id``, ``category`` and ``turns`` of each question.

    Raises:
        DataError: names file and row.
    """
    questions: dict[int | str, dict[str, Any]] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, row {number}"
        try:
            question = Question.model_validate_json(line)
        except ValidationError as error:
            problem = error.errors()[0]
            field = ".".join(map(str, problem["loc"]))
            raise DataError(where, f"{field or 'it'}: {problem['msg']}", "take MT-Bench's question.jsonl") from error
        if question.question_id in questions:
            raise DataError(where, f"question {question.question_id} is there already", "keep one of the two rows")
        questions[question.question_id] = question.model_dump()
    if not questions:
        raise DataError(str(path), "there are no questions", "take MT-Bench's question.jsonl")
    return list(questions.values())
