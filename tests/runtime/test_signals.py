"""SIGTERM as it really comes: more than once, and while its own handler is at work."""

import os
import signal
import subprocess
import sys

import pytest

WAITING = """
import sys, time
from selfie.runtime.signals import exit_on_sigterm, finish_step_on_sigterm, requested
from contextlib import nullcontext
with exit_on_sigterm():
    try:
        with finish_step_on_sigterm() if sys.argv[1] == "a step" else nullcontext():
            print("ready", flush=True)
            while not (sys.argv[1] == "a step" and requested()):
                time.sleep(0.001)
            time.sleep(0.5)
            print("step done", flush=True)
    finally:
        time.sleep(0.2)
        print("cleaned up", flush=True)
"""
SECONDS_TO_END = 10


@pytest.mark.parametrize(("during", "said"), [("a step", ["step done", "cleaned up"]), ("a wait", ["cleaned up"])])
def test_sigterm_that_comes_again_and_again_is_heard_once(during: str, said: list[str]):
    """The shell's `timeout` sends it twice at once. A step that was begun is ended, and nothing waits for ever."""
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", WAITING, during], stdout=subprocess.PIPE, text=True)
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            for _ in range(300):
                os.kill(child.pid, signal.SIGTERM)
            rest, _ = child.communicate(timeout=SECONDS_TO_END)
            assert rest.splitlines() == said
            assert child.returncode == 128 + signal.SIGTERM
        finally:
            child.kill()
            child.wait()
