"""Votes as preference pairs in a file that the next run can take as seeds."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from selfie.chat.speaker import Answer
from selfie.datasets import PreferenceDataset
from selfie.models.chat_template import Message


class Votes:
    """Every vote is on the disk before the next question; ties go to a file of their own beside it.

    Args:
        path: a JSONL file in the format of ``seed_preferences``; it is made with the first vote.
    """

    def __init__(self, path: Path):
        self.path = path
        self.ties = path.with_name(f"{path.stem}_ties.jsonl")
        self.count: Counter[str] = Counter()
        self._format = PreferenceDataset(str(path))

    def problem(self, messages: list[Message], answers: list[Answer]) -> str | None:
        """Why the two answers can't be a pair; None if they can."""
        try:
            self._format.check(_row(messages, *answers))
        except ValueError as error:
            return str(error.args[0])
        return None

    def prefer(self, messages: list[Message], chosen: Answer, rejected: Answer) -> None:
        """Appends the pair."""
        self.count[chosen.speaker] += 1
        _append(self.path, _row(messages, chosen, rejected))

    def tie(self, messages: list[Message], answers: list[Answer]) -> None:
        """Sets it aside: neither answer is preferred."""
        self.count["ties"] += 1
        said = {f"answer_{number}": answer.text for number, answer in enumerate(answers, start=1)}
        by = {f"answer_{number}_by": answer.speaker for number, answer in enumerate(answers, start=1)}
        _append(self.ties, {"prompt": _prompt(messages), **said, **by})


def _row(messages: list[Message], chosen: Answer, rejected: Answer) -> dict[str, Any]:
    return {
        "prompt": _prompt(messages),
        "chosen": chosen.text,
        "rejected": rejected.text,
        "chosen_finish_reason": chosen.finish_reason,
        "rejected_finish_reason": rejected.finish_reason,
        "chosen_by": chosen.speaker,
        "rejected_by": rejected.speaker,
    }


def _prompt(messages: list[Message]) -> str | list[Message]:
    return messages[0]["content"] if len(messages) == 1 else messages


def _append(path: Path, row: dict[str, Any]) -> None:
    """One line, on the disk when it returns. A line that a crash has cut stays a line of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        torn = file.tell() and path.read_bytes()[-1:] != b"\n"
        file.write((b"\n" if torn else b"") + json.dumps(row, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
