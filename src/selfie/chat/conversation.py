"""The conversation in the terminal: questions, answers as they come, and votes where two policies answer."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress

from selfie.chat.speaker import Answer, Speaker
from selfie.chat.votes import Votes
from selfie.errors import UserError
from selfie.models.chat_template import Message
from selfie.runtime.random_seeds import derive_seed

HELP = "/new begins a new conversation, /quit ends; Ctrl-C stops an answer."
VOTE = "Which is better? 1, 2, t (tie) or s (skip: takes the question back)> "


class Conversation:
    """Asks until the input ends.

    Args:
        speakers: one, or two who answer blind and in random order.
        votes: where votes go.
        seed: the run's: of the answers and their order.
        ask: shows its argument and returns the line that is typed; raises EOFError at the end.
        write: shows a piece of text.
    """

    def __init__(
        self,
        speakers: Sequence[Speaker],
        votes: Votes,
        seed: int,
        ask: Callable[[str], str] = input,
        write: Callable[[str], None] = lambda text: print(text, end="", flush=True),
    ):
        self.speakers, self.votes, self.seed = speakers, votes, seed
        self.ask, self.write = ask, write
        self.messages: list[Message] = []
        self.turn = 0

    def run(self) -> None:
        """Until /quit or the end of the input; then says how the votes stand."""
        self.write(f"{HELP}\n")
        try:
            while True:
                line = self._line("you> ")
                with suppress(KeyboardInterrupt):
                    self._turn(line)
        except EOFError:
            self.write("\n")
        if len(self.speakers) > 1:
            counts = ", ".join(f"{name} {self.votes.count[name]}" for name in (*self._names(), "ties"))
            self.write(f"Votes: {counts}. They are in {self.votes.path}\n")

    def _line(self, prompt: str) -> str:
        """A line that is not empty. Ctrl-C takes back what was typed."""
        while True:
            try:
                line = self.ask(prompt).strip()
            except KeyboardInterrupt:
                self.write(f"\n{HELP}\n")
                continue
            if line == "/quit":
                raise EOFError
            if line:
                return line

    def _turn(self, line: str) -> None:
        if line == "/new":
            self.messages = []
            return
        asked = [*self.messages, {"role": "user", "content": line}]
        try:
            answers = self._answers(asked)
        except UserError as error:
            self.write(f"{error.message}\n")
            return
        kept = self._vote(asked, answers) if len(answers) > 1 else answers[0]
        if kept is not None and kept.text.strip():
            self.messages = [*asked, {"role": "assistant", "content": kept.text}]

    def _answers(self, asked: list[Message]) -> list[Answer]:
        self.turn += 1
        speakers = list(self.speakers)
        if derive_seed(self.seed, "chat order", self.turn, json.dumps(asked)) % 2:
            speakers.reverse()
        answers = []
        for number, speaker in enumerate(speakers, start=1):
            self.write(f"{number if len(speakers) > 1 else speaker.name}> ")
            answers.append(speaker.answer(asked, derive_seed(self.seed, "chat", self.turn, speaker.name), self.write))
            self.write("\n")
        return answers

    def _vote(self, asked: list[Message], answers: list[Answer]) -> Answer | None:
        """The answer with which the conversation goes on: the better one, the first one of a tie, none if skipped."""
        problem = self.votes.problem(asked, answers)
        if problem is not None:
            self.write(f"No vote: {problem}.\n")
            return answers[0]
        while (choice := self._line(VOTE)) not in ("1", "2", "t", "s"):
            pass
        if choice == "s":
            return None
        if choice == "t":
            self.votes.tie(asked, answers)
            return answers[0]
        chosen, rejected = answers if choice == "1" else reversed(answers)
        self.votes.prefer(asked, chosen, rejected)
        return chosen

    def _names(self) -> list[str]:
        return [speaker.name for speaker in self.speakers]
