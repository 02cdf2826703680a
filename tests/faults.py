"""How tests cause faults: a process of its own that may die, a disk that is small."""

import json
import logging
import os
import resource
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

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


def within_memory(
    spare_mib: int, work: Callable[[], Any], tmp_path: Path, before: Callable[[], Any] = lambda: None
) -> tuple[Any, str]:
    """What ``work`` returns (JSON) in a process with so much memory to spare after ``before``, and what it logs."""

    def limited() -> None:
        before()
        logging.getLogger("selfie").addHandler(logging.FileHandler(tmp_path / "log"))
        limit = psutil.Process().memory_info().vms + spare_mib * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        (tmp_path / "result.json").write_text(json.dumps(work()))

    assert os.waitstatus_to_exitcode(in_a_child(limited)) == 0
    return json.loads((tmp_path / "result.json").read_text()), (tmp_path / "log").read_text()
