"""One annotator's labels: a file of JSON lines that is only ever appended to, each line on the disk before the next.

What was labelled is in the lines themselves, prompt and responses included, so that labels outlive the proposal that
they answer. Undoing a label appends a line that says so.
"""

import logging
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from selfie.config.strict import StrictModel
from selfie.errors import ConfigurationError, DataError
from selfie.errors.disk_and_memory import storage_error
from selfie.storage.commit import flush
from selfie.storage.locks import RunLock

logger = logging.getLogger(__name__)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
SHOWN = 100  # characters of a broken line in a message
Side = Literal["response_1", "response_2"]
Message = dict[str, str]


class Label(StrictModel):
    """One line of the file."""

    pair: str
    """A hash of the prompt and of both responses, in whichever order."""
    verdict: Literal["response_1", "response_2", "tie", "skip", "undone"]
    """Which response is better. ``undone`` takes the pair's last label back."""
    left: Side
    """Which one was shown first (left, or above on a narrow screen)."""
    seconds: Annotated[float, Field(ge=0)]
    """For which the pair was looked at."""
    time: str
    """When, in UTC."""
    messages: list[Message]
    response_1: str
    response_2: str
    response_1_finish_reason: str
    response_2_finish_reason: str

    def response(self, side: Side) -> tuple[str, str]:
        """Text and finish reason."""
        if side == "response_1":
            return self.response_1, self.response_1_finish_reason
        return self.response_2, self.response_2_finish_reason


class LabelFile:
    """An annotator's file, held by one process at a time from :meth:`open` to :meth:`close`."""

    def __init__(self, folder: Path, annotator: str):
        if not NAME.fullmatch(annotator):
            problem = f"{annotator!r:.120} is no name for a file"
            raise ConfigurationError("--annotator", problem, "use letters, digits, dots, - and _, 100 at most")
        self.annotator = annotator
        self.path = folder / f"{annotator}.jsonl"
        self._lock = RunLock(
            folder / f".{annotator}.lock",
            f"another process writes {annotator}'s labels",
            "go on in its page or stop it, or name another annotator (--annotator NAME)",
        )
        self._descriptor: int | None = None

    def open(self) -> list[Label]:
        """Takes the file and reads it; makes it where it is not there.

        A last line that was cut is set aside, with a warning: it is what a process wrote when it was killed.

        Raises:
            AlreadyRunningError: another process has it.
            DataError: a line in it is no label.
            StorageError: it can't be written.
        """
        try:
            self._lock.acquire()
            _mend(self.path)
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            flush(self.path.parent)
            return read_labels(self.path)
        except OSError as error:
            self.close()
            raise storage_error(error) from error
        except DataError:
            self.close()
            raise

    def append(self, label: Label) -> None:
        """Writes the label and waits until it is on the disk.

        Raises:
            StorageError: it could not be written; the file is as it was before.
        """
        assert self._descriptor is not None
        size = os.fstat(self._descriptor).st_size
        line = f"{label.model_dump_json()}\n".encode()
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
            os.fsync(self._descriptor)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._descriptor, size)
            error.filename = error.filename or str(self.path)
            raise storage_error(error) from error

    def close(self) -> None:
        """Lets go of the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self._lock.release()


def read_labels(path: Path) -> list[Label]:
    """All lines of the file; one that is being written, or was cut, is left out.

    Raises:
        DataError: a line in the middle is no label.
    """
    *lines, last = path.read_bytes().split(b"\n")
    if last:
        logger.warning("%s: its last line is not complete and is left out", path)
    return [_parse(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def standing(labels: Iterable[Label]) -> list[Label]:
    """The labels that were not taken back, in the order in which they were given."""
    given: list[Label] = []
    for label in labels:
        if label.verdict != "undone":
            given.append(label)
            continue
        of_pair = [number for number, earlier in enumerate(given) if earlier.pair == label.pair]
        if of_pair:
            del given[of_pair[-1]]
    return given


def label_files(folder: Path) -> Sequence[Path]:
    """The annotators' files, by name."""
    return sorted(file for file in folder.glob("*.jsonl") if NAME.fullmatch(file.stem))


def _parse(path: Path, number: int, line: bytes) -> Label:
    try:
        return Label.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        problem = f"it is no label ({name}: {first['msg']})" if name else f"it is no label ({first['msg']})"
        shown = line[:SHOWN].decode(errors="replace")
        raise DataError(f"{path}, row {number}", f"{problem}: {shown}", "mend the line or remove it") from error


def _mend(path: Path) -> None:
    """Ends a last line that lacks only its end; sets one that was cut aside, beside the file."""
    if not path.exists():
        return
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    last = content[end:]
    if not last:
        return
    with path.open("r+b") as file:
        try:
            Label.model_validate_json(last)
            file.seek(len(content))
            file.write(b"\n")
        except ValidationError:
            aside = path.with_name(f".torn-{path.name}")
            with aside.open("ab") as torn:
                torn.write(last + b"\n")
                torn.flush()
                os.fsync(torn.fileno())
            logger.warning("%s: its last line was cut in the middle; it is set aside in %s", path, aside)
            file.truncate(end)
        file.flush()
        os.fsync(file.fileno())
