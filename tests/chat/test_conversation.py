"""Conversations with tiny policies: what is said, voted and kept."""

import json
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from selfie.chat.conversation import VOTE, Conversation
from selfie.chat.speaker import Speaker
from selfie.chat.votes import Votes
from selfie.datasets import PreferenceDataset
from selfie.generation.engine import Sampling
from selfie.generation.transformers_engine import TransformersEngine

QUESTIONS = ["t0a t0b t0c", "t1a t1b t1c"]


@pytest.fixture(scope="module")
def speakers(make_checkpoint, tokenizer) -> Iterator[list[Speaker]]:
    """Two random policies that say up to 12 words."""
    with ExitStack() as stack:
        engines = [
            stack.enter_context(TransformersEngine(make_checkpoint(tokenizer, seed=seed), 512)) for seed in (0, 1)
        ]
        yield [Speaker(f"policy_{k}", engine, Sampling(1.0, 1.0, 12), 64) for k, engine in enumerate(engines)]


class Terminal:
    """Types the lines and keeps what is shown."""

    def __init__(self, *lines: str):
        self.lines, self.text = list(lines), ""

    def ask(self, prompt: str) -> str:
        self.text += prompt
        if not self.lines:
            raise EOFError
        self.text += f"{self.lines[0]}\n"
        return self.lines.pop(0)

    def write(self, text: str) -> None:
        self.text += text


@pytest.fixture
def talk(speakers: list[Speaker], tmp_path: Path) -> Callable[..., str]:
    """``talk(*lines, count=2)``: what the terminal shows; votes go to ``tmp_path / "votes.jsonl"``."""

    def run(*lines: str, count: int = 2, **changes: Callable) -> str:
        terminal = Terminal(*lines)
        talks = {"ask": terminal.ask, "write": terminal.write} | changes
        Conversation(speakers[:count], Votes(tmp_path / "votes.jsonl"), seed=0, **talks).run()
        return terminal.text

    return run


def answers(text: str) -> list[str]:
    return [line[3:] for line in text.splitlines() if line[:3] in ("1> ", "2> ")]


def votes(folder: Path, name: str = "votes") -> list[dict]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def test_a_vote_is_a_preference_pair_that_the_next_run_can_read(talk, tmp_path):
    text = talk(QUESTIONS[0], "2", QUESTIONS[1], "maybe", "1", "/quit")
    first, second, third, fourth = answers(text)
    pair, turn = votes(tmp_path)
    assert (pair["prompt"], pair["chosen"], pair["rejected"]) == (QUESTIONS[0], second, first)
    assert {pair["chosen_by"], pair["rejected_by"]} == {"policy_0", "policy_1"}
    conversation = [("user", QUESTIONS[0]), ("assistant", second), ("user", QUESTIONS[1])]
    assert [(message["role"], message["content"]) for message in turn["prompt"]] == conversation
    assert (turn["chosen"], turn["rejected"]) == (third, fourth)
    assert text.count(VOTE) == 3  # "maybe" is no vote
    assert PreferenceDataset(str(tmp_path / "votes.jsonl")).load()["chosen"] == [second, third]
    assert "policy_" not in text.partition("Votes:")[0]  # blind until the end


def test_the_order_is_drawn_and_answers_repeat(talk, tmp_path):
    lines = [line for _ in range(8) for line in (QUESTIONS[0], "1", "/new")]
    assert answers(talk(*lines)) == answers(talk(*lines))
    assert {row["chosen_by"] for row in votes(tmp_path)} == {"policy_0", "policy_1"}


def test_ties_are_set_aside_and_a_skipped_question_is_taken_back(talk, tmp_path):
    text = talk(QUESTIONS[0], "s", QUESTIONS[1], "t", QUESTIONS[0], "1")
    (tie,) = votes(tmp_path, "votes_ties")
    assert (tie["prompt"], tie["answer_1"], tie["answer_2"]) == (QUESTIONS[1], *answers(text)[2:4])
    (pair,) = votes(tmp_path)
    assert [message["content"] for message in pair["prompt"]] == [QUESTIONS[1], tie["answer_1"], QUESTIONS[0]]
    assert text.splitlines()[-1].endswith(f"ties 1. They are in {tmp_path}/votes.jsonl")


def test_ctrl_c_cuts_the_answer_and_the_conversation_goes_on(talk, tmp_path):
    """A real SIGINT after the first word of each answer; the pair says that both were cut."""
    answering: list[str] = []

    def write(text: str) -> None:
        if text in ("1> ", "2> "):
            answering.append(text)
        elif answering and text.strip():
            answering.clear()
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
    try:
        talk(QUESTIONS[0], "1", write=write)
    finally:
        signal.signal(signal.SIGINT, before)
    (pair,) = votes(tmp_path)
    assert (pair["chosen_finish_reason"], pair["rejected_finish_reason"]) == ("length", "length")
    assert max(len(pair[name].split()) for name in ("chosen", "rejected")) < 6


def test_the_same_answer_twice_is_no_pair(speakers, talk, tmp_path, monkeypatch):
    for attribute in ("name", "engine"):
        monkeypatch.setattr(speakers[1], attribute, getattr(speakers[0], attribute))
    text = talk(QUESTIONS[0])
    assert "No vote: chosen and rejected are identical." in text
    assert not (tmp_path / "votes.jsonl").exists()


def test_a_conversation_that_is_too_long_says_so_and_can_begin_anew(talk):
    text = talk(" ".join(["w00"] * 60), QUESTIONS[0], count=1)
    assert "max_length 64 leaves no room" in text
    assert re.search(r"policy_0> \w", text)


def test_a_torn_last_line_stays_a_line_of_its_own(talk, tmp_path):
    (tmp_path / "votes.jsonl").write_text('{"prompt": "cut by a cra')
    talk(QUESTIONS[0], "1")
    torn, whole = (tmp_path / "votes.jsonl").read_text().splitlines()
    assert torn == '{"prompt": "cut by a cra'
    assert json.loads(whole)["prompt"] == QUESTIONS[0]


def test_control_characters_never_reach_the_terminal(speakers, monkeypatch):
    """A vocabulary in which every word moves the cursor."""
    engine = speakers[0].engine
    monkeypatch.setattr(engine.tokenizer, "decode", lambda ids, **_: "\x1b[2Jword\x07 " * len(ids))
    shown: list[str] = []
    speakers[0].answer([{"role": "user", "content": QUESTIONS[0]}], 0, shown.append)
    assert "[2Jword " in "".join(shown)
    assert not {"\x1b", "\x07"} & set("".join(shown))
