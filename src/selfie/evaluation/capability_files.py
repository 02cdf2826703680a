"""Files of capability tests: questions with short answers, neutral text, IFEval's prompts."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from selfie.data.file_readers import Problem, read_file
from selfie.errors import DataError

Text = Annotated[str, Field(min_length=1)]
IFEVAL_SOURCE = (
    "it is input_data.jsonl of google-research/instruction_following_eval on GitHub (Apache-2.0), a line a prompt: "
    '{"key": …, "prompt": …, "instruction_id_list": […], "kwargs": […]}'
)


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class Question(_Row):
    """``answers``: each of them is right."""

    question: Text
    answers: Annotated[list[Text], Field(min_length=1)]


class Passage(_Row):
    """Prose in whole sentences."""

    text: Text


class InstructionPrompt(_Row):
    """A prompt of IFEval: ``kwargs`` are the arguments of each instruction's checker."""

    key: int
    prompt: Text
    instruction_id_list: Annotated[list[Text], Field(min_length=1)]
    kwargs: list[dict[str, Any]]


KINDS: dict[str, type[_Row]] = {"questions": Question, "text": Passage, "ifeval": InstructionPrompt}


def read_rows(path: str, kind: str) -> list[dict[str, Any]]:
    """The checked rows of a file in any format of :data:`selfie.data.file_readers.READERS`.

    Raises:
        DataError: names file and row.
    """
    rows = []
    for number, row in read_file(path):
        where = f"{path}, row {number}"
        if isinstance(row, Problem):
            raise DataError(where, row.problem, row.remedy)
        try:
            rows.append(KINDS[kind].model_validate(row).model_dump())
        except ValidationError as error:
            problem = error.errors()[0]
            field = ".".join(map(str, problem["loc"]))
            remedy = IFEVAL_SOURCE if kind == "ifeval" else f"each row has {', '.join(KINDS[kind].model_fields)}"
            raise DataError(where, f"{field}: {problem['msg']}", remedy) from error
    if not rows:
        raise DataError(path, "there are no rows", "name a file with some in the catalog")
    return rows
