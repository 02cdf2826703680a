"""A push to a hub that is a local server: what arrives, what is refused before the work, what an outage leaves.

Run in processes of their own, since huggingface_hub reads the hub's address when it is imported. hf_xet speaks to a
storage that no test has, so that large files go by HTTP (HF_HUB_DISABLE_XET), as they do where hf_xet is not installed.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub_server import HubServer, Repository
from runs import PROJECT

TOKEN = "hf_plantedplantedplanted"
ASKED = """
import json, sys
from pathlib import Path
from pydantic import SecretStr
from selfie.errors import UserError
from selfie.export.hub import check_hub, push

for repository, token, folder in json.load(sys.stdin):
    try:
        check_hub(repository, SecretStr(token))
        said = push(Path(folder), repository, SecretStr(token)) if folder else "it may"
    except UserError as error:
        said = [type(error).__name__, str(error)]
    print(json.dumps(said))
"""


def user(name: str = "ada", orgs: dict[str, str] | None = None, **access: Any) -> dict[str, Any]:
    """What ``whoami`` says; ``access``: of the token."""
    members = [{"name": org, "roleInOrg": role} for org, role in (orgs or {}).items()]
    return {"name": name, "orgs": members, "auth": {"type": "access_token", "accessToken": access}}


def scoped(name: str, *permissions: str) -> dict[str, Any]:
    """A fine-grained token's access to what has this name."""
    scopes = [{"entity": {"type": "user", "name": name}, "permissions": list(permissions)}]
    return {"role": "fineGrained", "fineGrained": {"global": ["discussion.write"], "scoped": scopes}}


@pytest.fixture
def hub() -> Iterator[HubServer]:
    server = HubServer()
    server.users[TOKEN] = user(role="write")
    server.start()
    yield server
    server.die()


def environment(hub: HubServer, **variables: str) -> dict[str, str]:
    known = {name: value for name, value in os.environ.items() if name not in ("HF_TOKEN", "HF_HUB_OFFLINE")}
    own = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return {**known, **own, "PYTHONPATH": str(PROJECT / "src")} | variables


def ask(hub: HubServer, *cases: tuple[str, str, str | None], **variables: str) -> list[Any]:
    """What each of (repository, token, folder to push) leads to; no word of it is a token."""
    command = [sys.executable, "-c", ASKED]
    text, there = json.dumps(cases), environment(hub, **variables)
    done = subprocess.run(command, input=text, env=there, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not any(token and token in done.stdout + done.stderr for _, token, _ in cases)
    return [json.loads(line) for line in done.stdout.splitlines()]


MAY = {
    "hf_write_planted": user(role="write"),
    "hf_fine_planted": user(**scoped("ada", "repo.content.read", "repo.write")),
    "hf_this-one_planted": user(**scoped("ada/tiny", "repo.write")),
    "hf_member_planted": user("bob", {"ada": "contributor"}, role="write"),
    "hf_oauth_planted": {"name": "ada", "auth": {"type": "oauth"}},
}
MAY_NOT = {
    "hf_read_planted": (user(role="read"), "the token may only read\n  → make a token with write permission"),
    "hf_fine-read_planted": (
        user(**scoped("ada", "repo.content.read")),
        "fine-grained and may not write to repositories of ada",
    ),
    "hf_fine-other_planted": (
        user(orgs={"lab": "write"}, **scoped("lab", "repo.write")),
        "may not write to repositories of ada",
    ),
    "hf_stranger_planted": (
        user("bob", {"lab": "write"}, role="write"),
        "is bob's, who is no member of ada\n  → .* bob, lab",
    ),
    "hf_reader_planted": (
        user("bob", {"ada": "read"}, role="write"),
        "bob may only read in ada\n  → ask an admin of ada",
    ),
}


def test_who_may_write(hub: HubServer):
    hub.users |= MAY
    assert ask(hub, *(("ada/tiny", token, None) for token in MAY)) == ["it may"] * len(MAY)
    assert {line.partition(" ")[0] for line in hub.requests} == {"GET"}


def test_who_may_not_is_told_what_to_do(hub: HubServer):
    hub.users |= {token: known for token, (known, _) in MAY_NOT.items()}
    for said, (_, expected) in zip(ask(hub, *(("ada/tiny", t, None) for t in MAY_NOT)), MAY_NOT.values(), strict=True):
        assert said[0] == "ConfigurationError"
        assert re.search(expected, said[1]), said[1]
    none, unknown, named = ask(
        hub, ("ada/tiny", "", None), ("ada/tiny", "hf_of_nobody", None), ("ada/a..b", TOKEN, None)
    )
    assert "needs a token, and there is none" in none[1]
    assert "give it as HF_TOKEN or in conf/local/credentials.yml" in none[1]
    assert "the hub does not know the token" in unknown[1]
    assert "write OWNER/NAME" in named[1]
    assert not hub.repositories


def test_a_hub_that_does_not_answer(hub: HubServer):
    ((offline, said),) = ask(hub, ("ada/tiny", TOKEN, None), HF_HUB_OFFLINE="1")
    assert (offline, "unset it" in said) == ("ModelError", True)
    hub.die()
    ((gone, said),) = ask(hub, ("ada/tiny", TOKEN, None))
    assert (gone, "ada/tiny: the hub can't be reached (ConnectError" in said) == ("ModelError", True)
    assert "run the same command again" in said


def test_a_repository_with_something_else_is_refused_and_an_earlier_export_replaced(hub: HubServer, tmp_path: Path):
    theirs = {"README.md": b"a life's work", "model.safetensors": b"theirs"}
    ours = {"manifest.json": b"{}", "model-00001-of-00002.safetensors": b"old", "notes.txt": b"kept"}
    hub.repositories = {"ada/theirs": Repository(files=dict(theirs)), "ada/ours": Repository(files=dict(ours))}
    for name in ("manifest.json", "model.safetensors", "README.md"):
        (tmp_path / name).write_text(f"new {name}")
    refused, done = ask(hub, ("ada/theirs", TOKEN, str(tmp_path)), ("ada/ours", TOKEN, str(tmp_path)))
    assert "holds something that is no earlier export (model.safetensors" in refused[1]
    assert hub.repositories["ada/theirs"].files == theirs
    assert done == {"repository": "ada/ours", "commit": f"{1:040x}", "url": f"{hub.url}/ada/ours"}
    assert hub.repositories["ada/ours"].files == {
        **{name: f"new {name}".encode() for name in ("manifest.json", "model.safetensors", "README.md")},
        "notes.txt": b"kept",
    }


def test_a_run_that_the_hub_leaves_keeps_the_export_and_the_next_one_uploads_it(
    hub: HubServer, finished_run: Path, tmp_path: Path
):
    data = Path(shutil.copytree(finished_run, tmp_path / "data"))
    places = {"SELFIE_DATA": str(data), "MLFLOW_TRACKING_URI": f"sqlite:///{data}/mlflow.db", "HF_TOKEN": TOKEN}
    folder = data / "06_models/test/export/policy_2"

    def export() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kedro", "run", "--env", "test", "--pipelines", "export"]
        command += ["--params", "export.dtype=float32,export.push_to_hub=ada/tiny"]
        there = environment(hub, COLUMNS="400", **places)
        return subprocess.run(command, env=there, cwd=PROJECT, capture_output=True, text=True, check=False)

    hub.dies_at = "/api/repos/create"
    failed = export()
    assert failed.returncode == 2, failed.stdout + failed.stderr
    assert "ada/tiny: the hub can't be reached" in failed.stderr
    assert "what was exported stays" in failed.stderr
    exported = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.iterdir()}
    assert "manifest.json" in exported
    hub.dies_at = None
    hub.start()
    done = export()
    assert done.returncode == 0, done.stdout + done.stderr
    assert {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.iterdir()} == exported
    repository = hub.repositories["ada/tiny"]
    assert repository.visibility == "private"
    assert repository.commits == ["Export of policy_2 by selfie"]
    arrived = {name: content for name, content in repository.files.items() if name != ".gitattributes"}
    assert arrived == {name: content for name, (content, _) in exported.items()}
    record = json.loads((data / "08_reporting/test/policy_2_push.json").read_text())
    assert (record["repository"], record["commit"]) == ("ada/tiny", f"{1:040x}")
    before = len(hub.requests)
    assert export().returncode == 0
    assert len(hub.requests) == before
    written = (file for file in data.rglob("*") if file.is_file())
    assert not [file for file in written if TOKEN.encode() in file.read_bytes()]
    assert TOKEN not in done.stdout + done.stderr + failed.stdout + failed.stderr
