"""How tests cause faults: a process of its own that may die, a disk that is small."""

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

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


@contextmanager
def room_for(most: int, owner: Any, name: str, size: Callable[..., int]) -> Iterator[None]:
    """While it lasts, ``owner.name`` fails on more than ``most``: it asks for memory that no machine grants."""
    function = getattr(owner, name)

    def limited(*arguments: Any, **options: Any) -> Any:
        if size(*arguments) > most:
            torch.empty(2**50)
        return function(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, limited)
        yield
