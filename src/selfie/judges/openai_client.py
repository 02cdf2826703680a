"""A client for OpenAI-compatible chat endpoints: the official API, `vllm serve`, Ollama.

Many questions at a time, a limit on requests per minute, retries with back-off; what fails for good is returned under
a name for its kind, and never stops the questions beside it.
"""

import email.utils
import logging
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Any

import httpx2
import tenacity
from pydantic import BaseModel, Field, SecretStr, ValidationError

from selfie.config.parameters import EndpointParameters
from selfie.errors import ConfigurationError

logger = logging.getLogger(__name__)

LONGEST_WAIT = 60.0  # seconds between two tries, whatever Retry-After says
TOP_LOG_PROBS = 20  # the most that the API gives
DETAIL_CHARACTERS = 300

Message = dict[str, str]


class FailureKind(StrEnum):
    """Why a question has no answer."""

    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    REJECTED = "rejected"
    """The endpoint will not take this question: too long for its context, say."""
    MALFORMED = "malformed_reply"
    REFUSED = "refused"
    NO_VERDICT = "no_verdict"
    """It answered, but not the question."""

    @property
    def is_transient(self) -> bool:
        """Whether the same question may succeed if it is asked again."""
        return self in _TRANSIENT


_TRANSIENT = {
    FailureKind.TIMEOUT,
    FailureKind.UNREACHABLE,
    FailureKind.RATE_LIMITED,
    FailureKind.SERVER_ERROR,
    FailureKind.MALFORMED,
}


class ChatFailureError(Exception):
    """A question without an answer. ``wait``: seconds that the endpoint asks for before the next try."""

    def __init__(self, kind: FailureKind, detail: str, wait: float = 0.0):
        super().__init__(f"{kind}: {detail}")
        self.kind, self.detail, self.wait = kind, detail, wait


class _TokenLogProb(BaseModel):
    token: str
    logprob: float


class TokenAlternatives(_TokenLogProb):
    """A token of the reply with the likeliest tokens in its place (natural logarithms)."""

    top_logprobs: list[_TokenLogProb] = []


class _LogProbs(BaseModel):
    content: list[TokenAlternatives] | None = None


class _Reply(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Reply
    finish_reason: str | None = None
    logprobs: _LogProbs | None = None


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Body(BaseModel):
    choices: Annotated[list[_Choice], Field(min_length=1)]
    usage: _Usage | None = None


@dataclass(frozen=True)
class Completion:
    """A reply: its text, its tokens with their alternatives (empty where the endpoint gives none), what it took."""

    text: str
    tokens: list[TokenAlternatives]
    prompt_tokens: int
    completion_tokens: int


class ChatClient:
    """Asks one model at one endpoint.

    Args:
        parameters: where it is and how hard it may be pressed.
        key: the API key; empty for endpoints that want none. It appears in no message and no log.
        backoff: seconds before the second try; doubled for each further one.

    Raises:
        ConfigurationError: the parameters name no model.
    """

    def __init__(self, parameters: EndpointParameters, key: SecretStr, backoff: float = 1.0):
        if parameters.model is None:
            raise ConfigurationError("annotation.endpoint.model", "it names no model", "name one that the endpoint has")
        self.parameters, self.key, self.backoff = parameters, key, backoff
        self.log_probs_known = True
        self._stopped = threading.Event()
        self._pace = _Pace(parameters.requests_per_minute, self._stopped)

    def complete_all(
        self, questions: Sequence[list[Message]], max_tokens: int, log_probs: bool
    ) -> Generator[tuple[int, Completion | ChatFailureError], None, None]:
        """Position and outcome of each question, in the order in which they come in.

        Closing the iterator gives up the questions that have not been asked.

        Raises:
            ConfigurationError: the endpoint denies access, or knows no such model.
        """
        self._stopped.clear()
        headers = {"Authorization": f"Bearer {self.key.get_secret_value()}"} if self.key.get_secret_value() else {}
        workers = self.parameters.concurrency
        limits = httpx2.Limits(max_connections=workers, max_keepalive_connections=workers)
        with (
            httpx2.Client(timeout=self.parameters.timeout, headers=headers, limits=limits) as http,
            ThreadPoolExecutor(workers, thread_name_prefix="chat") as pool,
        ):
            futures = {
                pool.submit(self._complete, http, messages, max_tokens, log_probs): position
                for position, messages in enumerate(questions)
            }
            try:
                for future in as_completed(futures):
                    yield futures[future], future.result()
            finally:
                self._stopped.set()
                pool.shutdown(cancel_futures=True)

    def _complete(
        self, http: httpx2.Client, messages: list[Message], max_tokens: int, log_probs: bool
    ) -> Completion | ChatFailureError:
        """Tries until there is a reply, a failure that will not pass, or no try left."""
        growing = tenacity.wait_exponential_jitter(multiplier=self.backoff, max=LONGEST_WAIT, jitter=self.backoff)

        def wait(state: tenacity.RetryCallState) -> float:
            failure = state.outcome.exception() if state.outcome else None
            asked = failure.wait if isinstance(failure, ChatFailureError) else 0.0
            return min(LONGEST_WAIT, max(asked, growing(state)))

        tries = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda e: isinstance(e, ChatFailureError) and e.kind.is_transient),
            stop=tenacity.stop_after_attempt(self.parameters.attempts) | tenacity.stop_when_event_set(self._stopped),
            sleep=tenacity.sleep_using_event(self._stopped),
            wait=wait,
            reraise=True,
        )
        try:
            return tries(self._ask, http, messages, max_tokens, log_probs)
        except ChatFailureError as failure:
            return failure

    def _ask(self, http: httpx2.Client, messages: list[Message], max_tokens: int, log_probs: bool) -> Completion:
        self._pace.wait()
        body: dict[str, Any] = {
            "model": self.parameters.model,
            "messages": messages,
            "max_tokens": max_tokens,
            "temperature": self.parameters.temperature,
        }
        wants_log_probs = log_probs and self.log_probs_known
        if wants_log_probs:
            body |= {"logprobs": True, "top_logprobs": TOP_LOG_PROBS}
        try:
            response = http.post(f"{self.parameters.base_url.rstrip('/')}/chat/completions", json=body)
        except httpx2.TimeoutException as error:
            raise ChatFailureError(
                FailureKind.TIMEOUT, f"no reply within {self.parameters.timeout:g} s ({type(error).__name__})"
            ) from error
        except httpx2.RequestError as error:
            raise ChatFailureError(FailureKind.UNREACHABLE, self._detail(str(error) or type(error).__name__)) from error
        if response.status_code == HTTPStatus.BAD_REQUEST and wants_log_probs and "logprobs" in response.text:
            logger.info("%s gives no log-probs; verdicts are read from the text", self.parameters.model)
            self.log_probs_known = False
            return self._ask(http, messages, max_tokens, log_probs)
        self._check_status(response)
        return self._read(response)

    def _check_status(self, response: httpx2.Response) -> None:
        status, detail = response.status_code, self._detail(response.text)
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise ConfigurationError(
                f"the judge's endpoint {self.parameters.base_url}",
                f"it denies access ({status}): {detail}",
                "set SELFIE_JUDGE_API_KEY, or judge.api_key in conf/local/credentials.yml",
            )
        if status == HTTPStatus.NOT_FOUND:
            raise ConfigurationError(
                f"the judge's endpoint {self.parameters.base_url}",
                f"it has no chat, or no model {self.parameters.model!r} (404): {detail}",
                "set annotation.endpoint.base_url (it usually ends in /v1) and annotation.endpoint.model",
            )
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            raise ChatFailureError(FailureKind.RATE_LIMITED, detail, _retry_after(response))
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
            raise ChatFailureError(FailureKind.SERVER_ERROR, f"{status}: {detail}", _retry_after(response))
        if status != HTTPStatus.OK:
            raise ChatFailureError(FailureKind.REJECTED, f"{status}: {detail}")

    def _read(self, response: httpx2.Response) -> Completion:
        try:
            body = _Body.model_validate_json(response.content)
        except ValidationError as error:
            raise ChatFailureError(FailureKind.MALFORMED, self._detail(response.text)) from error
        choice = body.choices[0]
        if choice.message.refusal or choice.finish_reason == "content_filter":
            raise ChatFailureError(FailureKind.REFUSED, self._detail(choice.message.refusal or "content filter"))
        tokens = (choice.logprobs.content or []) if choice.logprobs else []
        usage = body.usage or _Usage()
        return Completion(choice.message.content or "", tokens, usage.prompt_tokens, usage.completion_tokens)

    def _detail(self, text: str) -> str:
        """What the endpoint said, short, on one line and without the key, should it echo it."""
        key = self.key.get_secret_value()
        return " ".join((text.replace(key, "***") if key else text).split())[:DETAIL_CHARACTERS]


class _Pace:
    """Spaces requests evenly, retries included, so that no minute has more than allowed."""

    def __init__(self, requests_per_minute: int | None, stopped: threading.Event):
        self.interval = 60 / requests_per_minute if requests_per_minute else 0.0
        self.stopped, self.lock, self.next = stopped, threading.Lock(), 0.0

    def wait(self) -> None:
        """Returns when it is this request's turn."""
        with self.lock:
            turn = max(self.next, time.monotonic())
            self.next = turn + self.interval
        self.stopped.wait(max(0.0, turn - time.monotonic()))


def _retry_after(response: httpx2.Response) -> float:
    """Seconds; the header holds them or a date (RFC 9110, 10.2.3)."""
    value = response.headers.get("Retry-After", "")
    if value.replace(".", "", 1).isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0
