"""A judge's endpoint for the tests of this folder."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from judge_server import JudgeServer
from selfie.config.parameters import EndpointParameters, JudgePrompts
from selfie.judges.openai_api import LlmAnnotator
from selfie.judges.openai_client import ChatClient

CONFIGURATION = Path(__file__).parents[1] / "conf/base"


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    judge = JudgeServer()
    judge.start()
    yield judge
    judge.die()


@pytest.fixture(scope="session")
def prompts() -> JudgePrompts:
    """Those that are shipped."""
    shipped = yaml.safe_load((CONFIGURATION / "parameters_judge_prompts.yml").read_text())
    return JudgePrompts.model_validate(shipped["judge_prompts"])


@pytest.fixture
def endpoint(server: JudgeServer) -> Callable[..., EndpointParameters]:
    """The server's parameters, with changes."""
    defaults: dict[str, Any] = {
        "base_url": server.url,
        "model": "tester",
        "temperature": 0.0,
        "concurrency": 4,
        "requests_per_minute": None,
        "timeout": 5.0,
        "attempts": 3,
        "price": None,
    }
    return lambda **changes: EndpointParameters(**{**defaults, **changes})


@pytest.fixture
def judge(endpoint: Callable[..., EndpointParameters], prompts: JudgePrompts) -> Callable[..., LlmAnnotator]:
    """An annotator at the server; it backs off for hundredths of a second."""

    def make(key: str = "", **changes: Any) -> LlmAnnotator:
        return LlmAnnotator(ChatClient(endpoint(**changes), SecretStr(key), backoff=0.01), prompts.pairwise)

    return make
