"""The page's server: whom it answers, and that what it has answered is on the disk."""

import json
import re
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import psutil
import pytest

from selfie.labelling.label_file import read_labels
from selfie.labelling.server import LabelServer

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def server(serve, pairs) -> LabelServer:
    """Of four pairs."""
    return serve(pairs)


def ask(server: LabelServer, method: str, path: str, body: object = None, **headers: str) -> HTTPResponse:
    """A request as any program could send it; ``Content_Type`` stands for the header."""
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    content = body if isinstance(body, str) or body is None else json.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, content, {**(JSON if method == "POST" else {}), **named})
    return connection.getresponse()


def answer(server: LabelServer, choice: str = "left") -> dict:
    return {"pair": server.session.state()["pair"]["id"], "choice": choice, "seconds": 1.0}


def test_the_page_and_its_state(server: LabelServer):
    page = ask(server, "GET", f"/{server.token}/")
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    state = json.loads(ask(server, "GET", f"/{server.token}/state").read())
    assert (state["done"], state["total"], state["annotator"]) == (0, 4, "ana")
    assert server.url == f"http://127.0.0.1:{server.server_port}/{server.token}/"
    assert len(server.token) >= 32


def test_it_listens_on_this_machine_alone(server: LabelServer):
    listening = {s.laddr.ip for s in psutil.Process().net_connections("inet") if s.laddr.port == server.server_port}
    assert listening == {"127.0.0.1"}


def test_a_label_is_on_the_disk_before_it_is_answered(server: LabelServer, tmp_path: Path):
    for number, choice in enumerate(("left", "tie"), start=1):
        state = json.loads(ask(server, "POST", f"/{server.token}/label", answer(server, choice)).read())
        assert len(read_labels(tmp_path / "ana.jsonl")) == state["done"] == number
    assert json.loads(ask(server, "POST", f"/{server.token}/undo", {}).read())["done"] == 1
    assert [label.verdict for label in read_labels(tmp_path / "ana.jsonl")][1:] == ["tie", "undone"]


@pytest.mark.parametrize("path", ["/", "/state", "/x/state", "/{}x/state", "/x{}/", "/%C3%A4/", "/{}/x/"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_without_the_token_there_is_nothing(server: LabelServer, method: str, path: str):
    reply = ask(server, method, path.format(server.token), {} if method == "POST" else None)
    assert reply.status == (404 if path == "/{}/x/" else 403)
    assert json.loads(reply.read()).keys() == {"problem"}
    assert server.session.state()["done"] == 0


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "evil.example:{}", "127.0.0.1:1", "[::1]:{}", ""])
def test_another_host_name_is_refused(server: LabelServer, host: str):
    """As a page of another site would send it, whose name has been made to lead to this machine."""
    named = host.format(server.server_port)
    assert ask(server, "GET", f"/{server.token}/state", Host=named).status == 403
    assert ask(server, "POST", f"/{server.token}/label", answer(server), Host=named).status == 403
    assert ask(server, "GET", f"/{server.token}/state", Host=f"localhost:{server.server_port}").status == 200
    assert server.session.state()["done"] == 0


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ({}, {"Origin": "http://evil.example"}, 403),
        ({}, {"Origin": "null"}, 403),
        ({}, {"Content_Type": "text/plain"}, 415),
        ({}, {"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"pair": "x" * 20_000}, {}, 413),
        ({}, {"Content_Length": "-1"}, 413),
        ("{", {}, 400),
        ({}, {}, 400),
        ({"choice": "both"}, {}, 400),
        ({"seconds": -1}, {}, 400),
        ({"seconds": "1"}, {}, 400),
        ({"more": 1}, {}, 400),
        ({"pair": "0000"}, {}, 409),
    ],
)
def test_what_the_page_would_not_send_is_refused(server: LabelServer, body, headers: dict[str, str], status: int):
    sent = {**answer(server), **body} if isinstance(body, dict) and body else body
    reply = ask(server, "POST", f"/{server.token}/label", sent, **headers)
    assert reply.status == status
    assert json.loads(reply.read())["problem"]
    assert server.session.state()["done"] == 0


def test_every_reply_has_the_headers_that_protect_it(server: LabelServer):
    """Errors too; the policy names the page's own script and style and nothing that is inline."""
    for path, status in ((f"/{server.token}/", 200), ("/wrong/", 403), (f"/{server.token}/none", 404)):
        reply = ask(server, "GET", path)
        assert reply.status == status
        policy = dict(part.strip().split(" ", 1) for part in reply.headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert re.fullmatch(r"'sha256-[\w+/]{43}='", policy["script-src"])
        assert re.fullmatch(r"'sha256-[\w+/]{43}='", policy["style-src"])
        assert policy["frame-ancestors"] == policy["form-action"] == policy["base-uri"] == "'none'"
        assert reply.headers["Referrer-Policy"] == "no-referrer"
        assert reply.headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in reply.headers
    assert ask(server, "OPTIONS", f"/{server.token}/label").status == 501
    assert "Python" not in ask(server, "GET", "/").headers["Server"]


def test_a_full_disk_is_said_and_nothing_counts(small_disk: Path, serve, pairs):
    pairs[0]["response_1"] = "x" * 600_000
    server = serve(pairs, small_disk)
    reply = ask(server, "POST", f"/{server.token}/label", answer(server))
    assert (reply.status, "the disk is full" in json.loads(reply.read())["problem"]) == (507, True)
    assert server.session.state()["done"] == 0
