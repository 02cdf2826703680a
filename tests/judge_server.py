"""A real HTTP server with the OpenAI chat protocol that misbehaves on demand."""

import json
import math
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Reply:
    """What the server does with a request; a ``status`` of 0 closes the connection without a word."""

    text: str = "1"
    log_probs: dict[str, float] | None = None
    """Token → probability, at the first position."""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    body: str | None = None
    message: dict[str, Any] = field(default_factory=dict)


def longer_wins(request: dict[str, Any]) -> Reply:
    """The honest judge of these tests: it prefers the longer answer, wherever it stands."""
    first, second = shown_answers(request)
    return Reply("1" if len(first) > len(second) else "2")


def shown_answers(request: dict[str, Any]) -> tuple[str, str]:
    """Both answers, as the shipped prompt shows them."""
    text = request["messages"][-1]["content"]
    found = re.search(r"^(\w{8}) answer 1\n(.*)\n\1 answer 2\n(.*)\n\1 end$", text, re.S | re.M)
    assert found, text
    return found[2], found[3]


class JudgeServer:
    """``behave`` says what happens to a request; ``requests`` is what came in."""

    def __init__(self) -> None:
        self.behave: Callable[[dict[str, Any]], Reply] = longer_wins
        self.requests: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.authorizations: list[str | None] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.http: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self, url: str | None = None) -> None:
        """Listens at ``url``, or anywhere."""
        judge = self
        port = urlsplit(url).port or 0 if url else 0

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with judge.lock:
                    judge.requests.append(request)
                    judge.times.append(time.monotonic())
                    judge.authorizations.append(self.headers["Authorization"])
                    judge.at_once += 1
                    judge.most_at_once = max(judge.most_at_once, judge.at_once)
                try:
                    self.answer(judge.behave(request))
                except (BrokenPipeError, ConnectionResetError):
                    pass  # the client did not wait
                finally:
                    with judge.lock:
                        judge.at_once -= 1

            def answer(self, reply: Reply) -> None:
                time.sleep(reply.delay)
                if reply.status == 0:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                body = (chat_body(reply) if reply.body is None else reply.body).encode()
                self.send_response(reply.status)
                for name, value in {**reply.headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.http.daemon_threads = True
        self.port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def die(self) -> None:
        """Stops listening: from now on connections are refused."""
        if self.http is not None:
            self.http.shutdown()
            self.http.server_close()
            self.http = None


def chat_body(reply: Reply) -> str:
    choice: dict[str, Any] = {"message": {"role": "assistant", "content": reply.text, **reply.message}}
    if reply.log_probs is not None:
        likeliest = [{"token": token, "logprob": math.log(p)} for token, p in reply.log_probs.items()]
        choice["logprobs"] = {"content": [{**likeliest[0], "top_logprobs": likeliest}]}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 2}})
