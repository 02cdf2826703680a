"""Reading AlpacaEval's files: model outputs, annotations, reference answers, its length control's gamed baselines."""

import gzip
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from pydantic import AliasChoices, BaseModel, Field, ValidationError, field_validator

from selfie.errors import DataError
from selfie.evaluation.length_control import ANNOTATION_COLUMNS, GAMED_COLUMNS

Record = dict[str, Any]
"""A row of AlpacaEval's JSON files."""
DRAW = 1.5

_SUFFIXES = (".json", ".json.gz")
_UNJUDGED = -1

Row = TypeVar("Row", bound=BaseModel)


class ModelOutput(BaseModel):
    """A row of `model_outputs.json`; older files call the answer `output_1` or `output_2`."""

    instruction: str
    output: str = Field(validation_alias=AliasChoices("output", "output_2", "output_1"))
    generator: str | None = Field(None, validation_alias=AliasChoices("generator", "generator_2", "generator_1"))

    @field_validator("*")
    @classmethod
    def _is_unicode(cls, text: str | None) -> str | None:
        """JSON can hold half a surrogate pair, which no judge can be sent."""
        (text or "").encode()
        return text


class ReferenceAnswer(BaseModel):
    """A row of `reference_outputs.json`; older files call the answer `output_1`."""

    instruction: str
    output: str = Field(validation_alias=AliasChoices("output", "output_1"))


class Annotation(BaseModel):
    """A row of `annotations.json`; older files call the model's answer `output`."""

    index: int | None = None
    instruction: str | None = None
    output_1: str | None = None
    output_2: str = Field(validation_alias=AliasChoices("output_2", "output"))
    generator_2: str | None = None
    preference: float | None

    @field_validator("preference")
    @classmethod
    def _in_range(cls, preference: float | None) -> float:
        return _checked_preference(math.nan if preference is None else preference)


def read_annotations(path: Path, reference: Sequence[ReferenceAnswer] | None = None) -> dict[str, pd.DataFrame]:
    """Every model's annotations as :mod:`selfie.evaluation.length_control` takes them.

    Args:
        path: a folder of `MODEL.json` or `MODEL.json.gz`; one such file (an `annotations.json` is named by its
            `generator_2`); or a CSV of `model`, `index`, `len_1`, `len_2` and `preference`.
        reference: the reference's answers in the order of `index`, for annotations without `output_1` or `index`.

    Raises:
        DataError: names file and row.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.name.endswith(_SUFFIXES))
        if not files:
            raise DataError(str(path), "no annotations", "put MODEL.json or MODEL.json.gz files there")
        annotations: dict[str, pd.DataFrame] = {}
        for file in files:
            name, frame = _read_model(file, reference)
            if name in annotations:
                raise DataError(str(file), f"a second file of {name}", "keep one file for each model")
            annotations[name] = frame
        return annotations
    if path.name.endswith(_SUFFIXES):
        return dict([_read_model(path, reference)])
    return _read_table(path)


def read_reference(path: Path) -> list[ReferenceAnswer]:
    """The reference's answers; their order is the annotations' `index`."""
    return [_row(ReferenceAnswer, record, path, number) for number, record in enumerate(_read_list(path), 1)]


def read_outputs(path: Path) -> list[Record]:
    """A model's answers: ``instruction``, ``output`` and ``generator`` (the file's name, where a row has none).

    Raises:
        DataError: names file and row.
    """
    rows = [_row(ModelOutput, record, path, number) for number, record in enumerate(_read_list(path), 1)]
    if not rows:
        raise DataError(str(path), "no answers", "let the model answer at least one instruction")
    name = _stem(path)
    return [{**row.model_dump(), "generator": row.generator or name} for row in rows]


def read_annotation_records(path: Path) -> list[Record]:
    """Rows of `annotations.json` with ``instruction``, ``output_2`` and ``preference``; None for NaN and −1.

    Raises:
        DataError: names file and row.
    """
    rows = [_row(Annotation, record, path, number) for number, record in enumerate(_read_list(path), 1)]
    for number, row in enumerate(rows, 1):
        if row.instruction is None:
            raise DataError(f"{path}, row {number}", "no instruction", "add it")
    return [{**row.model_dump(), "preference": _judged_preference(row.preference)} for row in rows]


def read_gamed_baselines(path: Path) -> pd.DataFrame:
    """`df_gamed.csv`, in the order of its rows."""
    gamed = _read_csv(path, GAMED_COLUMNS)
    if not gamed["not_gamed_baseline"].isin([False]).all():
        raise DataError(str(path), "not_gamed_baseline must be False in every row", "use AlpacaEval's own df_gamed.csv")
    for column in ("index", "std_delta_len", "instruction_difficulty"):
        _check_numbers(gamed, column, path)
    return gamed


def _read_model(path: Path, reference: Sequence[ReferenceAnswer] | None) -> tuple[str, pd.DataFrame]:
    records = _read_list(path)
    rows = [_row(Annotation, record, path, number) for number, record in enumerate(records, 1)]
    if not rows:
        raise DataError(str(path), "no annotations", "annotate at least one answer")
    positions = {answer.instruction: index for index, answer in enumerate(reference or [])}
    seen: dict[int, int] = {}
    table = []
    for number, row in enumerate(rows, 1):
        where = f"{path}, row {number}"
        index, answer = _matched(row, reference, positions, where)
        if index in seen:
            raise DataError(where, f"index {index} is in row {seen[index]} already", "keep one of the two rows")
        seen[index] = number
        table.append((index, len(answer), len(row.output_2), row.preference))
    name = _stem(path)
    if name == "annotations":
        name = rows[0].generator_2 or name
    return name, pd.DataFrame(table, columns=list(ANNOTATION_COLUMNS))


def _matched(
    row: Annotation, reference: Sequence[ReferenceAnswer] | None, positions: dict[str, int], where: str
) -> tuple[int, str]:
    """The row's index and the reference's answer."""
    index = row.index
    if index is None:
        index = positions.get(row.instruction or "")
        if index is None:
            raise DataError(where, "no index, and no such instruction in the reference", "pass --reference")
    if reference is None:
        if row.output_1 is None:
            raise DataError(where, "no output_1", "pass --reference with the reference's answers")
        return index, row.output_1
    if not 0 <= index < len(reference):
        raise DataError(where, f"the reference has no index {index}", "use the reference it was annotated with")
    if row.instruction is not None and row.instruction != reference[index].instruction:
        raise DataError(where, f"another instruction than the reference's {index}", "use the reference's instructions")
    return index, reference[index].output if row.output_1 is None else row.output_1


def _read_table(path: Path) -> dict[str, pd.DataFrame]:
    table = _read_csv(path, ("model", *ANNOTATION_COLUMNS))
    if table.empty:
        raise DataError(str(path), "no annotations", "annotate at least one answer")
    if (table["model"] == "").any():
        position = int((table["model"] == "").to_numpy().argmax())
        raise DataError(f"{path}, line {position + 2}", "model is empty", "name the model")
    for column in ("index", "len_1", "len_2"):
        _check_numbers(table, column, path)
    for position, preference in enumerate(table["preference"]):
        try:
            _checked_preference(float(preference))
        except ValueError as error:
            raise DataError(f"{path}, line {position + 2}", str(error), "correct it, or leave it empty") from error
    repeated = table.duplicated(["model", "index"])
    if repeated.any():
        row = table[repeated].iloc[0]
        raise DataError(
            f"{path}, line {repeated.idxmax() + 2}",
            f"index {row['index']} of {row['model']} is there already",
            "keep one row for each model and index",
        )
    table["preference"] = table["preference"].astype(float)
    return {str(name): rows[list(ANNOTATION_COLUMNS)] for name, rows in table.groupby("model", sort=False)}


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".json")


def _judged_preference(preference: float | None) -> float | None:
    """None where the judge had none; AlpacaEval 1's draw as AlpacaEval 2's."""
    if preference is None or math.isnan(preference) or preference == _UNJUDGED:
        return None
    return DRAW if preference == 0 else preference


def _checked_preference(preference: float) -> float:
    """A preference as it is; 0 is AlpacaEval 1's draw."""
    if not (math.isnan(preference) or preference in (_UNJUDGED, 0) or 1 <= preference <= 2):  # noqa: PLR2004
        raise ValueError(f"preference {preference:g} is neither in [1, 2] nor empty, NaN, -1 or 0")
    return preference


def _check_numbers(table: pd.DataFrame, column: str, path: Path) -> None:
    numbers = pd.to_numeric(table[column], errors="coerce")
    negative = numbers < 0 if column in ("index", "len_1", "len_2") else numbers.isna()
    fractional = numbers % 1 != 0 if column == "index" else numbers.isna()
    wrong = numbers.isna() | negative | fractional
    if wrong.any():
        position = int(wrong.to_numpy().argmax())
        raise DataError(
            f"{path}, line {position + 2}", f"{column} is {table[column].iloc[position]!r}", "it must be a number"
        )
    table[column] = numbers.astype(int) if column == "index" else numbers


def _read_csv(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(
            path,
            skipinitialspace=True,
            dtype={"model": str},
            keep_default_na=False,  # a model may be called NA
            na_values={column: ["", "nan", "NaN", "null"] for column in columns if column != "model"},
        )
    except (ValueError, OSError) as error:
        raise DataError(str(path), f"not a CSV file: {error}", f"write a CSV with {', '.join(columns)}") from error
    missing = [column for column in columns if column not in table]
    if missing:
        raise DataError(str(path), f"no column {', '.join(missing)}", f"give it the columns {', '.join(columns)}")
    return table


def _read_list(path: Path) -> list[Any]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            records = json.load(file)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(str(path), f"not a JSON file: {error}", "write a JSON list, one object a row") from error
    if not isinstance(records, list):
        raise DataError(str(path), "not a JSON list", "write a JSON list, one object a row")
    return records


def _row(model: type[Row], record: Any, path: Path, number: int) -> Row:
    try:
        return model.model_validate(record)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"]))
        raise DataError(
            f"{path}, row {number}", f"{field}: {problem['msg']}" if field else problem["msg"], "correct the row"
        ) from error
