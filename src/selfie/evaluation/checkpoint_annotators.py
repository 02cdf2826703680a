"""Judges on this machine: a chat model's next-token distribution over the verdict, or a reward model's scores."""

from collections.abc import Sequence
from dataclasses import dataclass

from selfie.checkpoints import Checkpoint
from selfie.evaluation.annotators import Comparison, prefer_higher
from selfie.evaluation.judge import Verdict, Verdicts
from selfie.evaluation.llm_annotator import pairwise_messages, prompt_identity
from selfie.judges.reward_model import reward_model_scores
from selfie.judges.verdict import VerdictPrompt, verdict_probabilities
from selfie.parameters import JudgePrompt


class LocalAnnotator:
    """A chat model that is shown both answers: 1 + P("2") / (P("1") + P("2")), as AlpacaEval 2's weighted judge."""

    minds_order = True

    def __init__(self, checkpoint: Checkpoint, prompt: JudgePrompt, batch_tokens: int):
        self.checkpoint, self.prompt, self.batch_tokens = checkpoint, prompt, batch_tokens
        self.name = checkpoint.source
        self.identity = {"local": checkpoint.source, "revision": checkpoint.revision, **prompt_identity(prompt)}

    def judge(self, comparisons: Sequence[Comparison]) -> Verdicts:
        """The model's verdicts. Two comparisons of the same answers in both orders are read in one go."""
        pairs = list(dict.fromkeys(_unordered(comparison) for comparison in comparisons))
        if not pairs:
            return
        probabilities = verdict_probabilities(
            self.checkpoint,
            [pair.instruction for pair in pairs],
            [pair.first for pair in pairs],
            [pair.second for pair in pairs],
            _Question(self.prompt.user, "1", "2", self.prompt),
            self.batch_tokens,
        ).tolist()
        first_wins = dict(zip(pairs, probabilities, strict=True))
        for position, comparison in enumerate(comparisons):
            pair = _unordered(comparison)
            straight, swapped = first_wins[pair]
            yield position, Verdict(2 - straight if pair == comparison else 1 + swapped)


class RewardModelAnnotator:
    """The answer with the higher reward wins."""

    minds_order = False

    def __init__(self, checkpoint: Checkpoint, batch_tokens: int):
        self.checkpoint, self.batch_tokens = checkpoint, batch_tokens
        self.name = checkpoint.source
        self.identity = {"reward_model": checkpoint.source, "revision": checkpoint.revision}

    def judge(self, comparisons: Sequence[Comparison]) -> Verdicts:
        """Each answer is scored once."""
        answers = list(dict.fromkeys((c.instruction, answer) for c in comparisons for answer in (c.first, c.second)))
        if not answers:
            return
        rewards = reward_model_scores(
            self.checkpoint,
            [instruction for instruction, _ in answers],
            [answer for _, answer in answers],
            self.batch_tokens,
        ).tolist()
        reward = dict(zip(answers, rewards, strict=True))
        for position, comparison in enumerate(comparisons):
            first, second = (reward[comparison.instruction, a] for a in (comparison.first, comparison.second))
            yield position, Verdict(prefer_higher(first, second), scores=(first, second))


@dataclass(frozen=True)
class _Question(VerdictPrompt):
    """The same words as the endpoint's judge gets, in one user's turn: not every chat template has a system's."""

    prompt: JudgePrompt

    def fill(self, prompt: str, response_1: str, response_2: str) -> str:
        messages = pairwise_messages(self.prompt, Comparison(prompt, response_1, response_2))
        return "\n\n".join(message["content"] for message in messages)


def _unordered(comparison: Comparison) -> Comparison:
    first, second = sorted((comparison.first, comparison.second))
    return Comparison(comparison.instruction, first, second)
