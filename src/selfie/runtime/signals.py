"""SIGTERM: whatever is committed stays, training adds a checkpoint, and the process ends within ten seconds."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

logger = logging.getLogger(__name__)
EXIT_CODE = 128 + signal.SIGTERM
GRACE_SECONDS = 8


@dataclass
class _State:
    """Plain values: the lock of a ``threading.Event`` waits for ever where a signal interrupts its own handler."""

    came: bool = False
    """SIGTERM itself."""
    requested: bool = False
    waits: bool = False
    """Whether the training loop looks at ``requested`` after each step."""


_state = _State()


class TerminatedError(SystemExit):
    """Not an Exception, so that no ``except Exception`` goes on after it."""

    def __init__(self) -> None:
        super().__init__(EXIT_CODE)


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Inside, SIGTERM raises TerminatedError: at once, or inside :func:`finish_step_on_sigterm` after the step.

    Who handles SIGTERM already (this, around it; a server, a scheduler) keeps on doing so.
    """
    handled = signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    if handled or threading.current_thread() is not threading.main_thread():
        yield
        return
    _state.came = _state.requested = False
    before = {number: signal.signal(number, _on_signal) for number in (signal.SIGTERM, signal.SIGALRM)}
    try:
        yield
    finally:
        _state.came = _state.requested = False
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def finish_step_on_sigterm() -> Iterator[None]:
    """Inside, SIGTERM sets :func:`requested`; the work has eight seconds to end by itself, then is interrupted."""
    _state.waits = True
    try:
        yield
    finally:
        _state.waits = False
    if requested():
        raise TerminatedError


def requested() -> bool:
    """Whether SIGTERM has come."""
    return _state.requested


def request() -> None:
    """As if SIGTERM had come: another process of the same work was asked to end."""
    _state.requested = True


def _on_signal(number: int, _: FrameType | None) -> None:
    if number == signal.SIGTERM:
        if _state.came:  # ``timeout`` and make send it twice: to the process, and to its group
            return
        _state.came = _state.requested = True
        logger.warning("SIGTERM: stopping; the same command goes on from here")
        if _state.waits:
            signal.alarm(GRACE_SECONDS)
            return
    raise TerminatedError
