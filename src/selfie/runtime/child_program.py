"""A module of ours run as a program, ``python -m MODULE``: a socket to talk to it, and a log of what it prints.

A program and no fork or spawn: it imports nothing of the process that starts it, neither its threads and its
accelerator's context nor its main module, which for ``kedro run`` is a whole command line.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing import Pipe
from pathlib import Path

from selfie.errors.redaction import redact

QUOTED_LINES = 12


class ChildProgram:
    """Started at once; on the other side is :class:`selfie.runtime.parent_socket.ParentSocket`.

    Args:
        module: what to run.
        arguments: of its command line.
        environment: all of its variables.
        log_name: how the name of its log begins, where it is kept.
        log_folder: where that is; by default the system's for temporary files.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        environment: Mapping[str, str],
        log_name: str,
        log_folder: Path | None = None,
    ):
        self.log_name, self.log_folder = log_name, log_folder
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 — closed with it
        self.connection, theirs = Pipe()
        with theirs:
            self.process = subprocess.Popen(
                (sys.executable, "-P", "-X", "faulthandler", "-m", module, *arguments),
                stdin=theirs.fileno(),
                stdout=self._log,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                process_group=0,  # so that it can be ended with all that it has started, and Ctrl-C reaches us alone
            )

    def how_it_ended(self) -> str:
        """Of a program that has closed its socket; waits for its end."""
        code = self.process.wait()
        if code == -signal.SIGKILL:
            return "it was killed, as happens when memory runs out"
        return f"it ended with exit code {code}"

    def save_log(self) -> Path:
        """Ends it and keeps its log in a file. Secrets are taken out."""
        self.end()
        self._log.seek(0)
        log = redact(self._log.read().decode(errors="replace"))
        prefix, folder = f"{self.log_name}-", self.log_folder
        with tempfile.NamedTemporaryFile("w", prefix=prefix, suffix=".log", dir=folder, delete=False) as kept:
            kept.write(log)
        return Path(kept.name)

    def keep_log(self) -> str:
        """The same, in words: ``its log, FILE, ends with`` the last lines."""
        file = self.save_log()
        last = "\n".join(f"    {line}" for line in file.read_text().splitlines()[-QUOTED_LINES:])
        return f"its log, {file}, ends with\n{last}"

    def end(self) -> None:
        """Kills it with all that it has started."""
        self.connection.close()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def close(self) -> None:
        """Ends it and forgets its log."""
        self.end()
        self._log.close()
