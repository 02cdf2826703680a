"""Pairs to label, and labels of them."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from selfie.labelling.label_file import Label, LabelFile
from selfie.labelling.server import LabelServer
from selfie.labelling.session import LabellingSession, pair_id


@pytest.fixture
def pairs() -> list[dict[str, Any]]:
    """Four pairs as :class:`PairDataset` gives them; the second prompt is a conversation."""
    rows = []
    for number in range(4):
        messages = [{"role": "user", "content": f"Question {number}?"}]
        if number == 1:
            messages = [*messages, {"role": "assistant", "content": "Say more."}, {"role": "user", "content": "More."}]
        reasons = {"response_1_finish_reason": "stop", "response_2_finish_reason": "length"}
        rows.append({"messages": messages, "response_1": f"Yes {number}.", "response_2": f"No {number},", **reasons})
    return rows


@pytest.fixture
def make_label(pairs: list[dict[str, Any]]) -> Callable[..., Label]:
    """``make_label(number, verdict, **changes)``: a line of a file about a pair."""

    def make(number: int, verdict: str, **changes: Any) -> Label:
        row = {**pairs[number], **changes}
        found = pair_id(row["messages"], [row["response_1"], row["response_2"]])
        time = "2026-01-01T00:00:00+00:00"
        return Label(**{"pair": found, "verdict": verdict, "left": "response_1", "seconds": 2.0, "time": time, **row})

    return make


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., LabelServer]]:
    """``serve(pairs, folder=tmp_path)``: a real server of the annotator ana, in a thread, on a free port."""
    running: list[tuple[LabelServer, threading.Thread]] = []

    def start(pairs: list[dict[str, Any]], folder: Path = tmp_path) -> LabelServer:
        file = LabelFile(folder, "ana")
        server = LabelServer(LabellingSession(pairs, file, file.open(), seed=0), 0)
        running.append((server, threading.Thread(target=server.serve_forever)))
        running[-1][1].start()
        return server

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()
        server.session.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """``open_page(url)``; fails where a request went elsewhere or, without ``errors``, the console saw an error."""
    contexts, problems = [], []

    def opened(url: str, errors: bool = False, **options: Any) -> Any:
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        if not errors:
            page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: request.url.startswith((url, "data:")) or problems.append(request.url))
        page.goto(url)
        page.wait_for_selector("#pair:not([hidden]), #done:not([hidden])")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []
