"""Losses for trainings in several processes: the package's own, and something besides."""

import os
import signal
import sys
import time
from pathlib import Path

from torch import Tensor

from selfie.preference.losses import LOSSES


def watched(margin: Tensor, flagged: Tensor, label_smoothing: float) -> Tensor:
    """Leaves which process was here and what of Kedro and MLflow it has loaded; takes its time, if it is to."""
    foreign = sorted({"kedro", "mlflow"} & sys.modules.keys())
    (Path(os.environ["MARKS"]) / str(os.getpid())).write_text(" ".join(foreign))
    time.sleep(float(os.environ.get("SECONDS_A_STEP", "0")))
    return LOSSES["noise_aware"](margin, flagged, label_smoothing)


def deadly(margin: Tensor, flagged: Tensor, label_smoothing: float) -> Tensor:
    """The second process is killed, as by a system that has run out of memory."""
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return LOSSES["noise_aware"](margin, flagged, label_smoothing)
