"""A training's checkpoints: sealed by a manifest, so that a torn one is never trained on."""

import json
import logging
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather, gather_object
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from selfie.errors import DivergenceError
from selfie.runtime import signals
from selfie.storage.commit import damage, seal_folder, set_aside

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
        found = damage(folder)
        if found is None:
            return folder
        logger.warning("%s can't be used: set aside as %s", found, set_aside(folder))
    return None


def read_state(folder: Path) -> dict[str, Any]:
    """What :func:`seal_checkpoint` was given."""
    return json.loads((folder / STATE).read_text())


class Guard(TrainerCallback):
    """No step is taken on losses or gradients that are not finite; SIGTERM ends the training with a checkpoint.

    What happens to one process ends all of them, in the same step: one that stopped alone would leave the others
    waiting for it for ever.
    """

    def __init__(self) -> None:
        self.broken: set[int] = set()  # pairs of this process whose loss in this step is not finite

    def examine(self, losses: Tensor, pairs: Sequence[int]) -> None:
        """Remembers which of the pairs have a loss that is not finite, until the step's micro-batches are through."""
        finite = losses.isfinite().tolist()
        self.broken |= {pair for pair, is_finite in zip(pairs, finite, strict=True) if not is_finite}

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Raises DivergenceError in every process."""
        workspace = Path(str(args.output_dir))
        gradients = (parameter.grad for parameter in model.parameters() if parameter.grad is not None)
        finite = [_own_part(gradient).isfinite().all() for gradient in gradients]
        loss, gradient = _anywhere([bool(self.broken), not torch.stack(finite).all()], args.device)
        if loss:
            raise diverged("the loss", state.global_step, workspace, sorted(set(gather_object(list(self.broken)))))
        if gradient:
            raise diverged("the gradient", state.global_step, workspace)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Saves and stops in every process if SIGTERM has come to one."""
        if any(_anywhere([signals.requested()], args.device)):
            signals.request()
            control.should_save = control.should_training_stop = True


def _own_part(gradient: Tensor) -> Tensor:
    """What this process holds of it, where it lies spread over all."""
    return gradient.to_local() if isinstance(gradient, DTensor) else gradient


def _anywhere(facts: list[bool], device: torch.device) -> list[bool]:
    """Which of these are so in any process of the training; all of them ask at the same point of the same step."""
    return gather(torch.tensor([facts], device=device)).any(dim=0).tolist()


def diverged(what: str, step: int, workspace: Path, pairs: Sequence[int] = ()) -> DivergenceError:
    """Says where a training broke and to where it falls back."""
    last = max((number for number, _ in _checkpoints(workspace)), default=0)
    return DivergenceError(
        f"training, step {step + 1}" + (f", pairs {', '.join(map(str, pairs))}" if pairs else ""),
        f"{what} is not finite; the step was not taken",
        f"the last good state is step {last} and is kept; look at the pairs, or lower learning_rate, and run again",
    )


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
