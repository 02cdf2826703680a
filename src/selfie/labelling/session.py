"""What the page shows next, and what becomes of an answer; the page itself knows nothing but what it shows."""

import json
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import Any, Literal

from selfie.labelling.label_file import Label, LabelFile, Side, standing
from selfie.runtime.random_seeds import derive_seed

Choice = Literal["left", "right", "tie", "skip"]
Row = Mapping[str, Any]
SIDES: tuple[Side, Side] = ("response_1", "response_2")


class RefusedError(Exception):
    """An answer that can't be taken: its pair is not asked about, or is labelled already."""


def pair_id(messages: Sequence[Mapping[str, str]], responses: Sequence[str]) -> str:
    """The same for the same prompt and the same two responses, in whichever order."""
    content = [[[message["role"], message["content"]] for message in messages], sorted(responses)]
    return f"{derive_seed(json.dumps(content)):016x}"


class LabellingSession:
    """One annotator at work on the pairs; safe to call from several threads.

    Args:
        rows: the pairs, as :class:`selfie.datasets.PairDataset` gives them.
        file: the annotator's.
        labels: what it holds already.
        seed: the run's; with the annotator and the pair it decides which response is shown first.
    """

    def __init__(self, rows: Sequence[Row], file: LabelFile, labels: Sequence[Label], seed: int):
        self._file, self._seed = file, seed
        self._pairs = {pair_id(row["messages"], [row[side] for side in SIDES]): row for row in rows}
        self._given = {label.pair: label for label in standing(labels) if label.pair in self._pairs}
        self._lock = threading.Lock()

    def state(self) -> dict[str, Any]:
        """All that the page shows: progress, and the next pair, without a word of who wrote which response."""
        with self._lock:
            return self._state()

    def label(self, pair: str, choice: Choice, seconds: float) -> dict[str, Any]:
        """Commits an answer, and gives the new state.

        Raises:
            RefusedError: the pair is labelled already, or is none of these.
            StorageError: the answer could not be written.
        """
        with self._lock:
            if pair not in self._pairs:
                raise RefusedError("this pair is none of those to label")
            if pair in self._given:
                raise RefusedError("this pair is labelled already, perhaps in another window; undo it there")
            left, right = self._order(pair)
            verdict = {"left": left, "right": right}.get(choice, choice)
            self._given[pair] = self._write(pair, verdict, left, seconds)
            return self._state()

    def undo(self) -> dict[str, Any]:
        """Takes the last label back, and gives the new state, which asks for it again.

        Raises:
            RefusedError: there is none.
            StorageError: it could not be written.
        """
        with self._lock:
            if not self._given:
                raise RefusedError("there is no label to undo")
            last = next(reversed(self._given.values()))
            self._write(last.pair, "undone", last.left, 0.0)
            del self._given[last.pair]
            return self._state()

    def close(self) -> None:
        """Lets go of the file, once no answer is being written."""
        with self._lock:
            self._file.close()

    def _write(self, pair: str, verdict: Any, left: Side, seconds: float) -> Label:
        row = self._pairs[pair]
        copied = {name: row[name] for side in SIDES for name in (side, f"{side}_finish_reason")}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        label = Label(
            pair=pair, verdict=verdict, left=left, seconds=seconds, time=now, messages=row["messages"], **copied
        )
        self._file.append(label)
        return label

    def _order(self, pair: str) -> tuple[Side, Side]:
        first, second = SIDES
        turned = derive_seed(self._seed, "label_order", self._file.annotator, pair) % 2
        return (second, first) if turned else (first, second)

    def _state(self) -> dict[str, Any]:
        counts = Counter(label.verdict for label in self._given.values())
        timed = [label.seconds for label in self._given.values()]
        waiting = next((pair for pair in self._pairs if pair not in self._given), None)
        return {
            "annotator": self._file.annotator,
            "total": len(self._pairs),
            "done": len(self._given),
            "ties": counts["tie"],
            "skipped": counts["skip"],
            "median_seconds": median(timed) if timed else None,
            "pair": None if waiting is None else self._shown(waiting),
        }

    def _shown(self, pair: str) -> dict[str, Any]:
        row = self._pairs[pair]
        answers = [{"text": row[side], "cut": row[f"{side}_finish_reason"] == "length"} for side in self._order(pair)]
        return {"id": pair, "messages": row["messages"], "answers": answers}
