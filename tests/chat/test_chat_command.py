"""``selfie chat`` as it is typed: with piped input, and in a terminal."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runs import PROJECT

COMMAND = [sys.executable, "-m", "selfie", "chat", "--env", "test"]


@pytest.fixture(scope="module")
def environment(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """With a finished run's data."""
    data = shutil.copytree(finished_run, tmp_path_factory.mktemp("chat") / "data")
    return {**os.environ, "SELFIE_DATA": str(data), "PYTHONPATH": str(PROJECT / "src"), "TERM": "dumb"}


def chat(environment: dict[str, str], *policies: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *policies], input=typed, env=environment, cwd=PROJECT, capture_output=True, text=True, check=False
    )


def test_piped_questions_and_votes(environment):
    done = chat(environment, "policy_0", "policy_2", typed="t0a t0b t0c\n2\nt1a t1b t1c\n1\n/quit\n")
    assert done.returncode == 0, done.stderr
    rows = (Path(environment["SELFIE_DATA"]) / "01_raw/test_chat.jsonl").read_text().splitlines()
    assert [len(json.loads(row)["prompt"]) for row in rows] == [len("t0a t0b t0c"), 3]
    assert "Votes: policy_0" in done.stdout


def test_a_folder_answers_too(environment):
    folder = str(Path(environment["SELFIE_DATA"]) / "06_models/test/policy_1")
    done = chat(environment, folder, typed="t0a t0b t0c\n")
    assert done.returncode == 0, done.stderr
    assert re.search(r"policy_1> \w", done.stdout)


def test_an_unknown_policy_lists_those_that_are_there(environment):
    done = chat(environment, "policy_9")
    assert done.returncode == 2
    assert "policy_9: there is no policy and no folder of this name" in done.stderr
    assert "there are: initial_model, policy_0, policy_1, policy_2" in done.stderr


def _heed_ctrl_c() -> None:
    """Tests that run in the background inherit that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_in_a_terminal_does_not_end_it(environment):
    pexpect = pytest.importorskip("pexpect", reason="needs the extra `dev`")
    child = pexpect.spawn(
        COMMAND[0],
        [*COMMAND[1:], "policy_2"],
        env=environment,
        cwd=PROJECT,
        timeout=60,
        encoding="utf-8",
        preexec_fn=_heed_ctrl_c,
    )
    child.expect("/quit ends")
    child.expect("you> ")
    child.sendintr()
    child.expect("/quit ends")
    child.sendline("t0a t0b t0c")
    child.expect(r"policy_2> \w")
    child.expect("you> ")
    child.sendline("/quit")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
