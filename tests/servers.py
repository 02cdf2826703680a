"""Real servers on ports of their own; MLflow's can be killed and started again."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest

SECONDS_TO_START = 180


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_until_ready(url: str, process: subprocess.Popen, log: Path, seconds: int = SECONDS_TO_START) -> None:
    """Until the page answers; fails with the log where the process ends or takes too long."""
    for _ in range(seconds * 5):
        time.sleep(0.2)
        assert process.poll() is None, log.read_text()
        with suppress(OSError), urlopen(url):
            return
    pytest.fail(log.read_text())


class MlflowServer:
    """Keeps database, files and log in the folder; ``empty_database`` saves it the making of one."""

    def __init__(self, folder: Path, empty_database: Path):
        self.folder = folder
        shutil.copy(empty_database, folder / "server.db")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        """And waits until it answers; nothing where it runs already."""
        if self.process is not None:
            return
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder}/server.db"]
        command += ["--artifacts-destination", str(self.folder / "files")]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        file = self.folder / "server.log"
        with file.open("a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        wait_until_ready(f"{self.url}/health", self.process, file)

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
