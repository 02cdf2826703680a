"""The labelling page's server: on this machine alone, for whoever has the address that was printed.

The address holds a random token. Without it nothing is served; a page of another site can neither guess it nor, by a
name that leads to this machine (DNS rebinding), reach it, as the Host header must name the loopback address.
"""

import base64
import errno
import hashlib
import hmac
import json
import logging
import re
import secrets
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Annotated, Any

from pydantic import Field, ValidationError

from selfie.config.strict import StrictModel
from selfie.errors import ConfigurationError, StorageError
from selfie.labelling.session import Choice, LabellingSession, RefusedError

logger = logging.getLogger(__name__)
ADDRESS = "127.0.0.1"
LONGEST_BODY = 10_000  # bytes
PATIENCE = 30  # seconds in which a client may be silent


class Answer(StrictModel):
    """What the page sends."""

    pair: str
    choice: Choice
    seconds: Annotated[float, Field(ge=0)]


class LabelServer(ThreadingHTTPServer):
    """Serves one session until it is shut down.

    Args:
        session: the annotator's.
        port: 0 takes a free one.

    Raises:
        ConfigurationError: the port can't be had.
    """

    daemon_threads = True

    def __init__(self, session: LabellingSession, port: int):
        self.session = session
        self.token = secrets.token_urlsafe(32)
        self.page = files("selfie.labelling").joinpath("page.html").read_text(encoding="utf-8")
        self.policy = content_security_policy(self.page)
        try:
            super().__init__((ADDRESS, port), _Handler)
        except (OSError, OverflowError) as error:
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            problem = "another program uses it" if taken else f"it can't be used ({error})"
            remedy = "stop that program, or choose another port: --port NUMBER, where 0 takes any free one"
            raise ConfigurationError(f"port {port} of {ADDRESS}", problem, remedy) from error

    def handle_error(self, *_: Any) -> None:
        """A client that has gone is no error."""
        logger.debug("a request ended early", exc_info=True)

    @property
    def url(self) -> str:
        """The address to open, token included."""
        return f"http://{ADDRESS}:{self.server_port}/{self.token}/"


def content_security_policy(page: str) -> str:
    """Allows the page's own script and style, by their hashes, requests to its own server, and nothing else."""
    script, style = (_hashes(page, tag) for tag in ("script", "style"))
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hashes(page: str, tag: str) -> str:
    contents = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


class _Handler(BaseHTTPRequestHandler):
    """Answers the page's requests."""

    server: LabelServer
    server_version, sys_version = "selfie", ""
    timeout = PATIENCE

    def do_GET(self) -> None:
        """The page, and what it shows."""
        path = self._path()
        if path == "":
            self._send(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")
        elif path == "state":
            self._send_json(HTTPStatus.OK, self.server.session.state())
        elif path is not None:
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")

    def do_POST(self) -> None:
        """An answer, or taking one back."""
        path = self._path()
        if path is None:
            return
        body = self._body()
        if body is None:
            return
        try:
            if path == "label":
                answer = Answer.model_validate_json(body)
                self._send_json(HTTPStatus.OK, self.server.session.label(answer.pair, answer.choice, answer.seconds))
            elif path == "undo":
                self._send_json(HTTPStatus.OK, self.server.session.undo())
            else:
                self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")
        except ValidationError:
            self._refuse(HTTPStatus.BAD_REQUEST, "this is no answer that the page sends")
        except RefusedError as error:
            self._refuse(HTTPStatus.CONFLICT, str(error))
        except StorageError as error:
            self._refuse(HTTPStatus.INSUFFICIENT_STORAGE, error.message)

    def _body(self) -> bytes | None:
        """Of the page's own requests; None where it was refused. Other sites can send none of this type."""
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Origin") not in (None, *(f"http://{host}" for host in self._hosts())):
            self._refuse(HTTPStatus.FORBIDDEN, "requests of other sites are not taken")
        elif self.headers.get_content_type() != "application/json":
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "only application/json is taken")
        elif not (length.isascii() and length.isdigit()) or int(length[:9]) > LONGEST_BODY:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"no length, or more than {LONGEST_BODY} bytes")
        else:
            return self.rfile.read(int(length))
        return None

    def end_headers(self) -> None:
        """With every answer, errors too."""
        for name, value in {
            "Content-Security-Policy": self.server.policy,
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing: a log line would hold the token."""

    def _hosts(self) -> tuple[str, str]:
        return f"{ADDRESS}:{self.server.server_port}", f"localhost:{self.server.server_port}"

    def _path(self) -> str | None:
        """What stands after the token; None where the request was refused."""
        if self.headers.get("Host") not in self._hosts():
            self._refuse(HTTPStatus.FORBIDDEN, "this server answers to its loopback address alone")
            return None
        token, _, path = self.path.removeprefix("/").partition("?")[0].partition("/")
        if not hmac.compare_digest(token.encode(), self.server.token.encode()):
            self._refuse(HTTPStatus.FORBIDDEN, "open the address that `selfie label` printed last")
            return None
        return path

    def _refuse(self, status: HTTPStatus, problem: str) -> None:
        self.close_connection = True
        self._send_json(status, {"problem": problem})

    def _send_json(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        self._send(status, json.dumps(content), "application/json")

    def _send(self, status: HTTPStatus, text: str, kind: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
