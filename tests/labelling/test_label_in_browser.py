"""From prompts without labels to a policy: the commands, a real browser, a killed server, training."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from label_pages import done, press
from runs import PROJECT, run
from selfie.datasets import PreferenceDataset
from selfie.labelling.label_file import read_labels

CATALOG = """
seed_prompts:
  type: selfie.datasets.PromptDataset
  filepath: ${globals:data}/01_raw/seed_prompts.jsonl
"""
MERGED = """
seed_preferences:
  type: selfie.datasets.PreferenceDataset
  filepath: ${globals:data}/01_raw/labels/test/merged/preferences.jsonl
"""


class Running(NamedTuple):
    """A `selfie label` that has said where its page is."""

    process: subprocess.Popen[str]
    url: str


class Own(NamedTuple):
    """A user's project, and the commands in it."""

    folder: Path
    started: list[subprocess.Popen[str]]

    @property
    def labels(self) -> Path:
        return self.folder / "data/01_raw/labels/test"

    def command(self, *words: str) -> list[str]:
        options = ["--env", "mine", "--conf-source", str(self.folder / "conf")]
        return [sys.executable, "-m", "selfie", words[0], *options, *words[1:]]

    def label(self, *options: str) -> Running:
        process = subprocess.Popen(
            self.command("label", "--port", "0", *options), cwd=PROJECT, stdout=subprocess.PIPE, text=True
        )
        self.started.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            found = re.search(r"http://127\.0\.0\.1:\d+/\S+/", line)
            if found:
                return Running(process, found.group())
        raise AssertionError("it ended without an address")

    def ends(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*words), cwd=PROJECT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def own(own_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    """A project with eight prompts, one of them a conversation, and the pairs that are proposed for it."""
    folder = Path(shutil.copytree(own_project, tmp_path_factory.mktemp("labels") / "project"))
    shape = folder / "conf/mine/globals.yml"
    shape.write_text(shape.read_text().replace(str(own_project), str(folder)))
    (folder / "conf/mine/catalog_labels.yml").write_text(CATALOG)
    rows = [json.loads(line) for line in (folder / "data/01_raw/seed_preferences.jsonl").read_text().splitlines()]
    asked = [{"prompt": row["prompt"]} for row in rows]
    turn = {"role": "assistant", "content": "w00 w01"}
    user = {"role": "user", "content": rows[0]["prompt"]}
    asked[0] = {"prompt": [user, turn, user]}
    (folder / "data/01_raw/seed_prompts.jsonl").write_text("\n".join(map(json.dumps, asked)))
    started: list[subprocess.Popen[str]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        run("propose_labels", env="mine", conf_source=folder / "conf")
        yield Own(folder, started)
    for process in started:
        process.kill()
        process.wait()


def test_labels_survive_a_kill_and_train_a_policy(own: Own, open_page: Callable[..., Any]):
    proposed = (own.folder / "data/05_model_input/test/proposed_pairs.jsonl").read_text().splitlines()
    assert len(proposed) == 8
    server = own.label("--annotator", "ana")
    page = open_page(server.url)
    assert done(page) == "0 of 8"
    asked = json.loads(proposed[0])["prompt"]
    assert page.locator(".turn").count() == (1 if isinstance(asked, str) else len(asked))
    assert page.evaluate("document.activeElement.id") == "prompt-title"
    press(page, "1", "Saved: Answer 1 is better.")
    shown = page.locator("#right").inner_text()
    press(page, "ArrowRight", "Saved: Answer 2 is better.")
    press(page, "t", "Saved: Tie.")
    press(page, "u", "The last label is taken back.")
    press(page, "s", "Saved: Skipped.")
    assert done(page) == "3 of 8"
    second = own.ends("label", "--annotator", "ana", "--port", "0")
    assert second.returncode == 4
    assert f"another process writes ana's labels: pid {server.process.pid}" in " ".join(second.stderr.split())

    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    with (own.labels / "ana.jsonl").open("a") as stream:
        stream.write('{"pair": "cut in the mid')  # as a kill in the middle of a write would leave it
    server = own.label("--annotator", "ana")
    page = open_page(server.url)
    assert done(page) == "3 of 8"
    press(page, "u", "The last label is taken back.")
    for count in range(2, 8):
        page.locator('[data-choice="left"]').click()
        page.wait_for_function("done => document.getElementById('progress').value === done", arg=count + 1)
    assert page.locator("#done-title").is_visible()
    server.process.terminate()
    assert "8 of 8 pairs are labelled" in server.process.communicate(timeout=30)[0]

    lines = read_labels(own.labels / "ana.jsonl")
    assert [line.verdict for line in lines][2:6] == ["tie", "undone", "skip", "undone"]
    assert (own.labels / ".torn-ana.jsonl").read_text() == '{"pair": "cut in the mid\n'
    merged = own.ends("labels")
    assert merged.returncode == 0, merged.stderr
    assert "8 preferences:" in merged.stdout
    rows = PreferenceDataset(str(own.labels / "merged/preferences.jsonl")).load()
    assert rows["chosen"][1] == shown
    assert max(map(len, rows["messages"])) == 3

    catalog = own.folder / "conf/mine/catalog.yml"
    catalog.write_text(re.sub(r"^seed_preferences:\n(?:  .*\n)+", MERGED.lstrip(), catalog.read_text(), flags=re.M))
    run("loop", env="mine", conf_source=own.folder / "conf", iterations=0)
    summary = json.loads((own.folder / "data/08_reporting/test/summary.json").read_text())
    assert [(row["name"], row["n_pairs"]) for row in summary["iterations"]] == [("initial", None), ("policy_0", 8)]
