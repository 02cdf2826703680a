"""One of a training's processes, as a program: ``accelerate launch … -m selfie.training.launch FOLDER``.

:mod:`selfie.training.processes` starts it, with all that it is handed in the folder
(:mod:`selfie.training.handover`). On further machines the user does, and then nobody listens at its socket.
"""

import logging
import os
import stat
import sys
import traceback
from datetime import timedelta
from pathlib import Path

from accelerate import PartialState

from selfie.models.checkpoint import compute_device
from selfie.runtime.parent_socket import ParentSocket
from selfie.runtime.signals import exit_on_sigterm
from selfie.training.handover import leave_error, leave_log, take_over
from selfie.training.train import train

# The others wait for the first one while it writes the policy. One that dies is noticed at once, by the launcher.
LONGEST_WAIT = timedelta(hours=2)


def main() -> None:
    """Trains; exit code 1 after an error, 143 after SIGTERM."""
    folder, process = Path(sys.argv[1]), int(os.environ["RANK"])
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if stat.S_ISSOCK(os.fstat(0).st_mode):
        parent = ParentSocket()  # ends this process with the run
        if process == 0:
            handlers.append(parent.log_handler(logging.INFO))
    logging.getLogger("selfie.runtime.signals").setLevel(logging.ERROR)  # the run itself says that SIGTERM has come
    logging.basicConfig(level=logging.INFO, format=f"[{process}] %(message)s", handlers=handlers)
    code = 0
    try:
        with exit_on_sigterm():
            _train(folder, process)
    except Exception as error:
        leave_error(folder, process, error)
        traceback.print_exc()
        code = 1
    except SystemExit as end:
        code = int(end.code or 0)
    logging.shutdown()
    os._exit(code)  # gloo's destructor can wait for ever where Python frees it last


def _train(folder: Path, process: int) -> None:
    # It chooses this process's GPU, onto which models are loaded from here on.
    PartialState(cpu=compute_device().type == "cpu", timeout=LONGEST_WAIT)
    _, log = train(**take_over(folder))
    if process == 0:
        leave_log(folder, log)


if __name__ == "__main__":
    main()
