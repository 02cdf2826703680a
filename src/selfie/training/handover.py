"""What a training in several processes is handed, and what it leaves: files in one folder.

``pairs`` (Arrow) and ``arguments.json`` go to the processes. Back come ``log`` (Arrow), the record of every pair, and
``error.json``, the first error of one of them. The policy lies in the workspace, where every training leaves it.
"""

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datasets import Dataset, load_from_disk

from selfie import errors
from selfie.config.training import TrainingParameters
from selfie.errors import EngineError, UserError
from selfie.errors.disk_and_memory import explain
from selfie.models.checkpoint import Checkpoint
from selfie.training.pairs import COLUMNS


def hand_over(
    folder: Path, start: Checkpoint, pairs: Dataset, parameters: TrainingParameters, workspace: Path, **others: Any
) -> None:
    """Writes the arguments of :func:`selfie.training.train.train`; ``others`` are numbers and names."""
    read = {*COLUMNS, "weight", "human"}
    columns = [name for name in pairs.column_names if name in read]
    pairs.select_columns(columns).save_to_disk(str(folder / "pairs"))
    arguments = {"start": asdict(start), "parameters": parameters.model_dump(), "workspace": str(workspace), **others}
    (folder / "arguments.json").write_text(json.dumps(arguments))


def take_over(folder: Path) -> dict[str, Any]:
    """The arguments again, by name; the pairs are memory-mapped."""
    arguments = json.loads((folder / "arguments.json").read_text())
    return arguments | {
        "start": Checkpoint(**arguments["start"]),
        "pairs": load_from_disk(str(folder / "pairs")),
        "parameters": TrainingParameters.model_validate_json(json.dumps(arguments["parameters"])),
        "workspace": Path(arguments["workspace"]),
    }


def leave_error(folder: Path, process: int, error: Exception) -> None:
    """If it is the first one: what it leads to in other processes, such as a lost connection, comes later."""
    known = explain(error)
    if known is None:
        words = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        remedy = "look at the traceback in the log; the last checkpoint is kept, and the same command goes on from it"
        known = EngineError("training", words, remedy)
    content = {"type": type(known).__name__, "process": process}
    content |= {"where": known.where, "problem": known.problem, "remedy": known.remedy}
    with suppress(FileExistsError), (folder / "error.json").open("x") as file:
        json.dump(content, file)


def error_left(folder: Path, processes: int, log: Path) -> UserError | None:
    """What :func:`leave_error` was given, and which process it was, with the log of all of them."""
    file = folder / "error.json"
    if not file.exists():
        return None
    left = json.loads(file.read_text())
    problem = f"{left['problem']} (process {left['process']} of {processes}; the log of all: {log})"
    kind: type[UserError] = getattr(errors, left["type"])
    return kind(left["where"], problem, left["remedy"])


def leave_log(folder: Path, log: list[dict[str, Any]]) -> None:
    """The records of all pairs, at the end of the first process."""
    Dataset.from_list(log).save_to_disk(str(folder / "log"))


def log_left(folder: Path) -> list[dict[str, Any]]:
    """The records again."""
    return load_from_disk(str(folder / "log")).to_list()
