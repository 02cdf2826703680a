"""Judges on this machine: a chat model's next-token distribution over the verdict, or a reward model's scores.

They read one question a forward pass: in another batch bf16 rounds differently, and so a verdict depends on its
question alone, whatever else is asked, was answered before a kill, or is known from another experiment. Questions of
hundreds of tokens lose little speed by it.
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from scipy.special import expit

from selfie.config.parameters import JudgePrompt
from selfie.judges.base import Verdict, Verdicts
from selfie.judges.comparisons import Comparison, prefer_higher
from selfie.judges.openai_api import pairwise_messages, prompt_identity
from selfie.judges.prompted_policy import VerdictPrompt, open_llm_judge
from selfie.judges.reward_model import open_reward_model
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import Arithmetic
from selfie.storage.commit import MANIFEST, file_sha256

ONE_ROW = 1  # tokens of a batch: a row is never split, so each is a batch of its own


class LocalAnnotator:
    """A chat model that is shown both answers: 1 + P("2") / (P("1") + P("2")), as AlpacaEval 2's weighted judge."""

    depends_on_order = True

    def __init__(self, checkpoint: Checkpoint, prompt: JudgePrompt, arithmetic: Arithmetic = Arithmetic.FLOAT32):
        self.checkpoint, self.prompt, self.arithmetic = checkpoint, prompt, arithmetic
        self.name = checkpoint.source
        self.identity = {"local": model_content(checkpoint), "in": str(arithmetic), **prompt_identity(prompt)}

    def judge(self, comparisons: Sequence[Comparison]) -> Verdicts:
        """The model's verdicts, one after the other. No model is opened where there is nothing to ask."""
        if not comparisons:
            return
        with open_llm_judge(self.checkpoint, VerdictPrompt("", "1", "2"), ONE_ROW, self.arithmetic) as ask:
            for position, comparison in enumerate(comparisons):
                (log_odds,) = ask([self._question(comparison)])
                yield position, Verdict(2 - float(expit(log_odds)))

    def _question(self, comparison: Comparison) -> str:
        """What the endpoint's judge is told, in one user's turn: not every chat template has a system's."""
        return "\n\n".join(message["content"] for message in pairwise_messages(self.prompt, comparison))


class RewardModelAnnotator:
    """The answer with the higher reward wins."""

    depends_on_order = False

    def __init__(self, checkpoint: Checkpoint, arithmetic: Arithmetic = Arithmetic.FLOAT32):
        self.checkpoint, self.arithmetic = checkpoint, arithmetic
        self.name = checkpoint.source
        self.identity = {"reward_model": model_content(checkpoint), "in": str(arithmetic)}

    def judge(self, comparisons: Sequence[Comparison]) -> Verdicts:
        """The model's verdicts, one after the other. No model is opened where there is nothing to ask."""
        if not comparisons:
            return
        with open_reward_model(self.checkpoint, ONE_ROW, self.arithmetic) as rate:
            for position, comparison in enumerate(comparisons):
                messages = comparison.messages or [{"role": "user", "content": comparison.instruction}]
                first, second = rate([(messages, answer) for answer in (comparison.first, comparison.second)])
                yield position, Verdict(prefer_higher(first, second), scores=(first, second))


def model_content(checkpoint: Checkpoint) -> str:
    """What the model is, wherever it lies: ``repository@revision``, or the SHA-256 over a local folder's files.

    Every byte is read, once a process as long as sizes and times stay: of a model of 14 GB that takes about a minute.

    Raises:
        ModelError: the folder does not exist, or is no checkpoint.
    """
    checkpoint.check_files()
    folder = Path(checkpoint.source)
    if not folder.exists():
        return f"{checkpoint.source}@{checkpoint.revision}"
    # The manifest of a model that the project wrote says how it was made, not what it is.
    files = [file for file in folder.iterdir() if file.is_file() and file.name[0] != "." and file.name != MANIFEST]
    return _sha256(tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(files)))


@cache
def _sha256(files: tuple[tuple[Path, int, int], ...]) -> str:
    listed = "".join(f"{file.name} {file_sha256(file)}\n" for file, *_ in files)
    return hashlib.sha256(listed.encode()).hexdigest()
