"""A training's checkpoints: sealed by a manifest, so that a torn one is never trained on."""

import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

from kedro.io import DatasetError
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from selfie.datasets.commit import seal_folder, set_aside, verify

logger = logging.getLogger(__name__)
STATE = "noise_aware_state.json"  # what the trainer has beside transformers' own state


def seal_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Adds ``state`` and the manifest to what transformers wrote, then drops the older checkpoints.

    In the order of their steps: transformers would go by the files' times, which a clock that jumps upsets.
    """
    (folder / STATE).write_text(json.dumps(state))
    seal_folder(folder)
    logger.debug("committed %s", folder)
    for step, older in _checkpoints(folder.parent):
        if step < _step(folder):
            shutil.rmtree(older)


def newest_checkpoint(workspace: Path) -> Path | None:
    """The last checkpoint that verifies; torn or damaged ones are set aside and named in the log."""
    for _, folder in sorted(_checkpoints(workspace), reverse=True):
        try:
            verify(folder)
        except DatasetError as error:
            logger.warning("%s can't be used: set aside as %s", error, set_aside(folder))
        else:
            return folder
    return None


def read_state(folder: Path) -> dict[str, Any]:
    """What :func:`seal_checkpoint` was given."""
    return json.loads((folder / STATE).read_text())


class NoLastCheckpoint(TrainerCallback):
    """transformers saves a last checkpoint at the end, where the policy itself is about to be committed."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_save = False


def _checkpoints(workspace: Path) -> list[tuple[int, Path]]:
    return [(_step(folder), folder) for folder in workspace.glob("checkpoint-*")]


def _step(folder: Path) -> int:
    found = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    return int(found[1]) if found else -1
