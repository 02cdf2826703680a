"""How tests cause faults: a process of its own that may die, a disk that is small."""

import os
import traceback
from collections.abc import Callable

ROOT = os.geteuid() == 0


def in_a_child(work: Callable[[], None]) -> int:
    """Forks, works, and returns the exit status; an exception is 99."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except SystemExit as end:
            os._exit(int(end.code or 0))
        except BaseException:
            traceback.print_exc()
            os._exit(99)
        os._exit(0)
    return os.waitpid(child, 0)[1]
