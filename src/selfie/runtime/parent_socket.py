"""The child's side of :mod:`selfie.runtime.child_program`; standard library only, so that programs may choose.

vLLM for CPUs looks through every loaded module, and some do not bear it.
"""

import logging
import os
import pickle
import signal
import threading
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any


class ParentSocket:
    """Messages from and to the process that started this one.

    A thread listens all the time: when the parent has ended, however it ended, this process and its group are killed.
    """

    def __init__(self) -> None:
        socket = os.dup(0)  # out of the reach of whatever this program starts
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        self._connection = Connection(socket)
        self._messages: SimpleQueue[bytes] = SimpleQueue()
        self.send = self._connection.send
        threading.Thread(target=self._listen, daemon=True).start()

    def receive(self) -> Any:
        """The next message; waits for it. It is unpickled here, in the caller's thread."""
        return pickle.loads(self._messages.get())

    def log_handler(self, level: int) -> logging.Handler:
        """Sends what is logged, from this level on, as ``("log", record)``."""
        handler = QueueHandler(SimpleNamespace(put_nowait=lambda record: self.send(("log", record))))  # type: ignore[arg-type]
        handler.setLevel(level)
        handler.setFormatter(logging.Formatter())  # the text alone: the parent's log adds the rest
        return handler

    def _listen(self) -> None:
        while True:
            try:
                self._messages.put(self._connection.recv_bytes())
            except (EOFError, OSError):
                if os.getpgrp() == os.getpid():  # with a compiler that may be at work
                    os.killpg(0, signal.SIGKILL)
                os._exit(1)
