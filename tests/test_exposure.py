"""Nothing secret is written or printed, and nothing that the project serves can be reached from another machine."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest
from mlflow import MlflowClient

from runs import PROJECT, run
from selfie.errors import UserError
from selfie.errors.redaction import MASK, move_credentials, redact
from servers import free_port, wait_until_ready

USER, PASSWORD = "reader", "Pa55wort-geheim"
TRACKING_PASSWORD = "Tr4cking-geheim"
PLANTED = {
    "HF_TOKEN": "hf_plantedplantedplanted",
    "OPENAI_API_KEY": "sk-plantedplantedplanted",
    "AWS_SECRET_ACCESS_KEY": "aws/planted+planted",
    "MY_DATABASE_PASSWORD": "database-planted",
}
CREDENTIALS = "bucket-key-planted"
SECRETS = [PASSWORD, TRACKING_PASSWORD, CREDENTIALS, *PLANTED.values()]


class Served(NamedTuple):
    """A running ``make`` target."""

    url: str
    process: psutil.Process
    folder: Path


def serve(target: str, port_variable: str, folder: Path, path: str) -> Iterator[Served]:
    """``make TARGET`` as a user types it, but on another port and in another folder."""
    port = free_port()
    command = ["make", "-f", str(PROJECT / "Makefile"), "-o", "install", target, f"{port_variable}={port}"]
    command.append(f"VENV={Path(sys.executable).parents[1]}")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(url + path, process, folder / "log")
        yield Served(url, psutil.Process(process.pid), folder)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


@pytest.fixture(scope="module")
def mlflow_ui(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("mlflow")
    shutil.copy(empty_database, folder)
    yield from serve("mlflow", "PORT", folder, "/health")


def listening(process: psutil.Process) -> set[str]:
    """The addresses on which the process and its children accept connections."""
    family = [process, *process.children(recursive=True)]
    sockets = [s for member in family for s in member.net_connections("inet") if s.status == psutil.CONN_LISTEN]
    return {s.laddr.ip for s in sockets}


def test_mlflow_listens_on_this_machine_alone(mlflow_ui: Served):
    assert listening(mlflow_ui.process) == {"127.0.0.1"}


def test_viz_listens_on_this_machine_alone():
    """By its command line: a kedro-viz that starts takes longer than all the other tests of this file."""
    shown = subprocess.run(
        ["make", "-n", "-o", "install", "viz"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert "--host 127.0.0.1" in shown.stdout


def test_mlflow_executes_no_jobs(mlflow_ui: Served):
    """Whoever reaches the page could otherwise have the server run what MLflow calls jobs."""
    body = json.dumps({"job_name": "invoke_scorer", "params": {}}).encode()
    request = Request(f"{mlflow_ui.url}/ajax-api/3.0/jobs/", body, {"Content-Type": "application/json"})
    with pytest.raises(HTTPError) as refused:
        urlopen(request)
    said = refused.value.read().decode()
    assert refused.value.code >= HTTPStatus.BAD_REQUEST
    assert "MLFLOW_SERVER_ENABLE_JOB_EXECUTION" in said, said


@pytest.fixture
def data_server(own_project: Path) -> Iterator[str]:
    """A real web server that gives the user's data to those who know the password; yields its address with it."""
    expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    class Guarded(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            file = own_project / "data/01_raw" / Path(self.path).name
            status = 404 if not file.exists() else 200 if self.headers["Authorization"] == expected else 401
            content = file.read_bytes() if status == HTTPStatus.OK else b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Guarded)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{USER}:{PASSWORD}@127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def guarded_project(own_copy: Path, data_server: str) -> Path:
    """The user's project with secrets wherever a user might put them."""
    mine = own_copy / "conf/mine"
    catalog = (mine / "catalog.yml").read_text().replace("${globals:data}/01_raw", data_server)
    bucket = "bucket:\n  type: json.JSONDataset\n  filepath: s3://bucket/a.json\n  credentials: my_bucket\n"
    (mine / "catalog.yml").write_text(catalog + bucket)
    (mine / "credentials.yml").write_text(f"my_bucket: {{key: me, secret: {CREDENTIALS}}}\n")
    return own_copy


def kedro_run(folder: Path, tracking_uri: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **PLANTED, "MLFLOW_TRACKING_URI": tracking_uri}
    command = [sys.executable, "-m", "kedro", "run", "--env", "mine", "--conf-source", str(folder / "conf")]
    command += ["--params", "iterations=1"]
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)


def leaks(text: str, *folders: Path) -> list[tuple[str, str]]:
    """(secret, where) of every secret that stands in the text or in a file below the folders."""
    written = {str(file): file.read_bytes() for folder in folders for file in folder.rglob("*") if file.is_file()}
    written["output"] = text.encode()
    return [(secret, name) for secret in SECRETS for name, content in written.items() if secret.encode() in content]


def check_received(url: str) -> None:
    """The server has the run's figures and files."""
    client = MlflowClient(url)
    experiment = client.get_experiment_by_name("test")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    (parent,) = (run for name, run in runs.items() if "whole loop" in name)
    assert runs["policy_1"].data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert "win_rate" in runs["policy_1"].data.metrics
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} >= {"summary.json", "progress.html"}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}


def test_a_whole_run_is_tracked_and_leaks_no_secret(guarded_project: Path, mlflow_ui: Served):
    """Data behind a password, a tracking server behind a password, tokens in the environment and in credentials.yml."""
    tracking = mlflow_ui.url.replace("://", f"://{USER}:{TRACKING_PASSWORD}@")
    done = kedro_run(guarded_project, tracking)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert (guarded_project / "data/08_reporting/test/summary.json").exists()
    assert "View run" in output  # MLflow did print its addresses
    assert leaks(output, guarded_project / "data", mlflow_ui.folder) == []
    check_received(mlflow_ui.url)


def test_a_run_that_fails_leaks_no_secret(guarded_project: Path, tmp_path: Path):
    """The error names the data by its address, without the password."""
    catalog = guarded_project / "conf/mine/catalog.yml"
    catalog.write_text(catalog.read_text().replace("prompts.jsonl", "nowhere.jsonl"))
    done = kedro_run(guarded_project, f"sqlite:///{tmp_path}/mlflow.db")
    output = done.stdout + done.stderr
    assert done.returncode == 2, output
    assert "the file does not exist" in " ".join(output.split())
    assert leaks(output, guarded_project / "data") == []
    assert "Traceback" not in output


def test_an_error_about_the_catalog_quotes_no_password(guarded_project: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    catalog = guarded_project / "conf/mine/catalog.yml"
    remote = "filepath: ${globals:model}\n  trust_remote_code: true"
    catalog.write_text(catalog.read_text().replace("filepath: ${globals:model}", remote))
    with pytest.raises(UserError, match="trust_remote_code") as caught:
        run(env="mine", conf_source=guarded_project / "conf")
    assert leaks(str(caught.value), guarded_project / "data") == []


def test_passwords_and_secret_values_are_masked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOME_API_KEY", "planted-planted")
    monkeypatch.setenv("SHORT_TOKEN", "the")
    monkeypatch.setenv("COLOUR", "ultramarine")
    text = "s3://me:pw@bucket/a and postgresql://u:p@ss@db/x, key planted-planted, the ultramarine one, a@b.c://d"
    expected = f"s3://{MASK}@bucket/a and postgresql://{MASK}@db/x, key {MASK}, the ultramarine one, a@b.c://d"
    assert redact(text) == expected
    assert redact("https://host/path?user=a@b") == "https://host/path?user=a@b"


@pytest.mark.parametrize(
    ("uri", "clean", "user", "password"),
    [
        ("https://me:p%40ss@host:5000/x", "https://host:5000/x", "me", "p@ss"),
        ("https://host:5000", "https://host:5000", None, None),
        ("sqlite:////tmp/a.db", "sqlite:////tmp/a.db", None, None),
        ("postgresql://me:pw@host/db", "postgresql://me:pw@host/db", None, None),
    ],
)
def test_a_servers_password_goes_where_its_client_looks(monkeypatch, uri: str, clean: str, user, password):
    for name in ("A_USER", "A_PASSWORD"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    assert move_credentials(uri, "A_USER", "A_PASSWORD") == clean
    assert (os.environ.get("A_USER"), os.environ.get("A_PASSWORD")) == (user, password)
