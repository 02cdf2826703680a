"""A real HTTP server with the few calls of the Hugging Face hub that an export needs, as huggingface_hub makes them."""

import base64
import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class RefusedError(Exception):
    """An answer other than 200; ``code`` is the hub's own word for it, ``more`` stands beside the message."""

    def __init__(self, status: HTTPStatus, said: str, code: str = "", **more: str):
        super().__init__(said)
        self.status, self.code, self.more = status, code, more


@dataclass
class Repository:
    """``commits`` are their messages."""

    visibility: str = "public"
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)


class HubServer:
    """Knows ``users`` by their tokens and keeps ``repositories``; ``requests`` are the calls that came in.

    It dies, and answers nothing more, when it is asked for ``dies_at``.
    """

    def __init__(self) -> None:
        self.users: dict[str, dict[str, Any]] = {}
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        self.large: dict[str, bytes] = {}
        self.dies_at: str | None = None
        self.http: ThreadingHTTPServer | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listens, after a death at the same address."""
        handler = type("Handler", (_Handler,), {"hub": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self.http.daemon_threads = True
        self.port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def die(self) -> None:
        """Stops listening: from now on connections are refused."""
        if self.http is not None:
            self.http.shutdown()
            self.http.server_close()
            self.http = None

    def answer(self, method: str, path: str, body: bytes, token: str) -> dict[str, Any] | list[Any]:
        """What is sent back, as JSON."""
        self.requests.append(f"{method} {path}")
        if method == "PUT":
            self.large[path.removeprefix("/large/")] = body
            return {}
        user = self.users.get(token)
        if user is None:
            raise RefusedError(HTTPStatus.UNAUTHORIZED, f"Invalid credentials: {token}")
        if path == "/api/whoami-v2":
            return user
        if path == "/api/validate-yaml":
            return {}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        owner, name, *call = path.removeprefix("/api/models").strip("/").replace(".git/", "/").split("/")
        repository = self.repositories.get(f"{owner}/{name}")
        if repository is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, "Repository not found", "RepoNotFound")
        calls: dict[str, Callable[[Repository, bytes], Any]] = {
            "": _describe,
            "tree/main": _list,
            "preupload/main": _choose_modes,
            "info/lfs/objects/batch": self._say_where,
            "commit/main": self._commit,
        }
        return calls["/".join(call)](repository, body)

    def _create(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.repositories:
            raise RefusedError(HTTPStatus.CONFLICT, "You already created this model repo", url=f"{self.url}/{name}")
        self.repositories[name] = Repository(asked["visibility"], {".gitattributes": b"*.safetensors filter=lfs\n"})
        return {"url": f"{self.url}/{name}"}

    def _say_where(self, repository: Repository, body: bytes) -> dict[str, Any]:
        objects = json.loads(body)["objects"]
        return {
            "transfer": "basic",
            "objects": [
                {**item, "actions": {"upload": {"href": f"{self.url}/large/{item['oid']}"}}} for item in objects
            ],
        }

    def _commit(self, repository: Repository, body: bytes) -> dict[str, str]:
        for line in body.splitlines():
            kind, value = (entry := json.loads(line))["key"], entry["value"]
            if kind == "header":
                repository.commits.append(value["summary"])
            elif kind == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif kind == "lfsFile":
                content = self.large[value["oid"]]
                assert hashlib.sha256(content).hexdigest() == value["oid"]
                repository.files[value["path"]] = content
            elif kind == "deletedFile":
                del repository.files[value["path"]]
        (name,) = (name for name, known in self.repositories.items() if known is repository)
        commit = f"{len(repository.commits):040x}"
        return {"commitUrl": f"{self.url}/{name}/commit/{commit}", "commitOid": commit}


def _describe(repository: Repository, body: bytes) -> dict[str, Any]:
    return {"id": "model", "sha": "0" * 40, "siblings": [{"rfilename": name} for name in repository.files]}


def _list(repository: Repository, body: bytes) -> list[dict[str, Any]]:
    return [
        {"type": "file", "path": name, "size": len(content), "oid": "0"} for name, content in repository.files.items()
    ]


def _choose_modes(repository: Repository, body: bytes) -> dict[str, Any]:
    large = (".safetensors", ".gguf")
    return {
        "files": [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(large) else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
    }


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer

    def do_GET(self) -> None:
        self._respond()

    def do_POST(self) -> None:
        self._respond()

    def do_PUT(self) -> None:
        self._respond()

    def _respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        if self.hub.dies_at == path:
            self.hub.die()
            return
        headers = {}
        try:
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status, said = HTTPStatus.OK, self.hub.answer(self.command, path, body, token)
        except RefusedError as refused:
            status, said = refused.status, {"error": str(refused), **refused.more}
            headers = {"X-Error-Code": refused.code} if refused.code else {}
        content = json.dumps(said).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Type": "application/json", "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass
