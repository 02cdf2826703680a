"""A language model behind a chat endpoint as annotator: which of two answers is better, 1 or 2?

The preference is read from the log-probs of the verdict tokens where the endpoint gives them, as AlpacaEval 2's
weighted judge does (Dubois et al., arXiv 2404.04475), else from the text.
"""

import hashlib
import logging
import math
import re
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from selfie.config.parameters import JudgePrompt
from selfie.judges.base import Verdict, Verdicts
from selfie.judges.comparisons import Comparison
from selfie.judges.openai_client import (
    ChatClient,
    ChatFailureError,
    Completion,
    FailureKind,
    Message,
    TokenAlternatives,
)

logger = logging.getLogger(__name__)

VERDICT_TOKENS = 16  # room for "Answer 1 is better."
VERDICT_MASS = 0.1  # what the verdict's tokens must have of the first token's probability to be taken for a verdict
CHARACTERS_PER_TOKEN = 4  # English, roughly: for the estimate alone
MILLION = 1_000_000

_VERDICT = re.compile(
    r"\W*(?:the\s+)?(?:better\s+)?(?:(?:answer|response)\b)?(?:\s+is)?\W*([12])\W*(?:is\s+(?:the\s+)?better\b.*)?",
    re.IGNORECASE,
)
_REFUSAL = re.compile(r"\W*(?:I['’]m|I am|sorry|I)\b.{0,40}?(?:sorry|cannot|can['’]t|unable|won['’]t|not able)", re.I)


class LlmAnnotator:
    """Asks the endpoint's model, many comparisons at a time."""

    depends_on_order = True

    def __init__(self, client: ChatClient, prompt: JudgePrompt):
        self.client, self.prompt = client, prompt
        self.name = str(client.parameters.model)
        self.identity = judge_identity(client, prompt)

    def judge(self, comparisons: Sequence[Comparison]) -> Verdicts:
        """The model's verdicts; says what they will roughly cost, and what they did."""
        questions = [pairwise_messages(self.prompt, comparison) for comparison in comparisons]
        bill = Bill(self.client)
        bill.estimate(questions, completion_tokens=1)
        try:
            with closing(self.client.complete_all(questions, VERDICT_TOKENS, log_probs=True)) as outcomes:
                for position, outcome in outcomes:
                    bill.add(outcome)
                    yield position, self._verdict(outcome)
        finally:
            bill.report()

    def _verdict(self, outcome: Completion | ChatFailureError) -> Verdict:
        if isinstance(outcome, ChatFailureError):
            return Verdict(None, outcome.kind, outcome.detail)
        spent: dict[str, Any] = {
            "prompt_tokens": outcome.prompt_tokens,
            "completion_tokens": outcome.completion_tokens,
            "price": price_of(self.client, outcome.prompt_tokens, outcome.completion_tokens),
        }
        preference = read_log_probs(outcome.tokens)
        if preference is None:
            preference = read_text(outcome.text)
        if preference is not None:
            return Verdict(preference, **spent)
        kind = FailureKind.REFUSED if _REFUSAL.match(outcome.text) else FailureKind.NO_VERDICT
        return Verdict(None, kind, repr(outcome.text[:100]), **spent)


def judge_identity(client: ChatClient, prompt: JudgePrompt) -> dict[str, Any]:
    """What the verdicts of a model at an endpoint depend on."""
    parameters = client.parameters
    return {
        "base_url": parameters.base_url,
        "model": parameters.model,
        "temperature": parameters.temperature,
        **prompt_identity(prompt),
    }


def prompt_identity(prompt: JudgePrompt) -> dict[str, Any]:
    """The prompt's version and text: a change that forgot the version counts as well."""
    text = hashlib.sha256(f"{prompt.system}\x1f{prompt.user}".encode()).hexdigest()
    return {"prompt_version": prompt.version, "prompt_sha256": text}


def pairwise_messages(prompt: JudgePrompt, comparison: Comparison) -> list[Message]:
    """The comparison as the judge reads it.

    Texts are put in once, as data: braces in an answer stay braces. The fence between them derives from all of them,
    so no answer can write it to pretend that it has ended.
    """
    texts = (comparison.instruction, comparison.first, comparison.second)
    fields = {"instruction": texts[0], "answer_1": texts[1], "answer_2": texts[2], "fence": fence(*texts)}
    return fill_prompt(prompt, fields)


def fill_prompt(prompt: JudgePrompt, fields: dict[str, str]) -> list[Message]:
    """The prompt's two messages with their fields filled in."""
    return [
        {"role": "system", "content": prompt.system.format(**fields)},
        {"role": "user", "content": prompt.user.format(**fields)},
    ]


def fence(*texts: str) -> str:
    """Eight hexadecimal digits that depend on every character of the texts."""
    return hashlib.sha256("\x1f".join(texts).encode()).hexdigest()[:8]


def read_log_probs(tokens: Sequence[TokenAlternatives]) -> float | None:
    """1 + P(2) / (P(1) + P(2)) at the first token; None where both together have less than a tenth of its probability.

    Alternatives that differ by white space alone count together.
    """
    first = next((token for token in tokens if token.token.strip()), None)
    if first is None or not first.top_logprobs:
        return None
    mass = {"1": 0.0, "2": 0.0}
    for alternative in first.top_logprobs:
        label = alternative.token.strip()
        if label in mass:
            mass[label] += math.exp(alternative.logprob)
    both = sum(mass.values())
    return 1 + mass["2"] / both if both >= VERDICT_MASS else None


def read_text(text: str) -> float | None:
    """1.0 or 2.0 if the reply's first line is the verdict ("2", "Answer 1.", "[[2]]"), else None."""
    lines = text.strip().splitlines()
    found = _VERDICT.fullmatch(lines[0]) if lines else None
    return float(found[1]) if found else None


class Bill:
    """Tokens and dollars of a series of questions."""

    def __init__(self, client: ChatClient):
        self.client = client
        self.asked = self.prompt_tokens = self.completion_tokens = 0

    def estimate(self, questions: Sequence[list[Message]], completion_tokens: int) -> None:
        """Logs what the questions will take, at four characters a token."""
        if questions:
            characters = sum(len(message["content"]) for question in questions for message in question)
            prompt, completion = characters // CHARACTERS_PER_TOKEN, completion_tokens * len(questions)
            self._say("Asking", len(questions), f"about {prompt + completion:,} tokens", prompt, completion)

    def add(self, outcome: Completion | ChatFailureError) -> None:
        """Counts a reply."""
        self.asked += 1
        if isinstance(outcome, Completion):
            self.prompt_tokens += outcome.prompt_tokens
            self.completion_tokens += outcome.completion_tokens

    def report(self) -> None:
        """Logs what they took."""
        if self.asked:
            total = self.prompt_tokens + self.completion_tokens
            self._say("Asked", self.asked, f"{total:,} tokens", self.prompt_tokens, self.completion_tokens)

    def _say(self, verb: str, questions: int, tokens: str, prompt: int, completion: int) -> None:
        price = price_of(self.client, prompt, completion)
        cost = "" if price is None else f", ${price:.2f}"
        logger.info("%s %s %d times: %s%s", verb, self.client.parameters.model, questions, tokens, cost)


def price_of(client: ChatClient, prompt_tokens: int, completion_tokens: int) -> float | None:
    """Dollars, where the endpoint's price is known."""
    price = client.parameters.price
    if price is None:
        return None
    return (prompt_tokens * price.prompt + completion_tokens * price.completion) / MILLION
