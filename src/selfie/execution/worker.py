"""A local worker as a program, ``python -m selfie.execution.worker CORES``; ``LocalPool`` starts it and talks to it.

On its socket comes what opens the model, then shards; back go ``("done", None)`` for each of them, warnings as
``("log", record)``, and ``("error", error)`` for what the user can mend. Whatever else goes wrong ends it: the last
lines of its log say why.
"""

import logging
import os
import sys

from selfie.errors.disk_and_memory import explain
from selfie.runtime.parent_socket import ParentSocket


def main() -> None:
    """Opens, then computes until the socket closes."""
    if sys.argv[1] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, map(int, sys.argv[1].split(",")))
    parent = ParentSocket()
    # Warnings go to the run's log too; all else stays in this program's own.
    logging.basicConfig(level=logging.INFO, handlers=[logging.StreamHandler(), parent.log_handler(logging.WARNING)])
    try:
        with parent.receive()() as compute:
            parent.send(("done", None))
            while True:
                parent.receive().commit(compute)
                parent.send(("done", None))
    except Exception as error:
        known = explain(error)
        if known is None:
            raise
        parent.send(("error", known))


if __name__ == "__main__":
    main()
