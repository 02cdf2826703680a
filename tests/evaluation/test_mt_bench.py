"""MT-Bench: questions, two-turn answers of a real model, grades over a real server, means by hand."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DatasetError
from pydantic import SecretStr

from judge_server import JudgeServer, Reply
from selfie.config.parameters import EndpointParameters, JudgePrompts
from selfie.datasets import MtBenchQuestionsDataset
from selfie.errors import ConfigurationError, DataError, UserError
from selfie.evaluation.mt_bench import Grader, answer_questions, conversations, grade_answers, mean_grades, read_grade
from selfie.evaluation.mt_bench_questions import read_questions
from selfie.generation.engine import Sampling
from selfie.judges.openai_client import ChatClient
from selfie.models.checkpoint import Checkpoint
from selfie.storage.annotation_cache import AnnotationCache

QUESTIONS = [
    {"question_id": 81, "category": "writing", "turns": ["t0a t0b t0c", "t1a t1b"], "reference": ["kept out"]},
    {"question_id": 82, "category": "math", "turns": ["t2a", "t2b t2c"]},
]


def write(path: Path, *lines: Any) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return path


def test_questions_are_read(tmp_path: Path):
    questions = read_questions(write(tmp_path / "question.jsonl", *QUESTIONS, ""))
    assert questions == [{k: q[k] for k in ("question_id", "category", "turns")} for q in QUESTIONS]


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["{"], "row 1: it: Invalid JSON"),
        ([QUESTIONS[0], {"question_id": 1, "category": "c"}], "row 2: turns: Field required"),
        ([{**QUESTIONS[0], "turns": ["only one"]}], "row 1: turns: List should have at least 2"),
        ([{**QUESTIONS[0], "turns": ["one", ""]}], r"row 1: turns.1: String should have at least 1"),
        ([QUESTIONS[0], QUESTIONS[0]], "row 2: question 81 is there already"),
        ([""], "there are no questions"),
    ],
)
def test_bad_questions(tmp_path: Path, lines: list[Any], problem: str):
    with pytest.raises(DataError, match=problem):
        read_questions(write(tmp_path / "question.jsonl", *lines))


def test_no_file_is_named():
    with pytest.raises(DatasetError, match="mt_bench_questions: no file is named"):
        MtBenchQuestionsDataset(None).load()


def answered(checkpoint: Checkpoint, questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    sampling = Sampling(temperature=1.0, top_p=1.0, max_new_tokens=8)
    return answer_questions(
        questions, checkpoint, sampling, engine="transformers", batch_tokens=512, max_length=100, seed=0
    )


def test_the_second_answer_sees_the_first_turn(fp32_checkpoint: Checkpoint):
    """The second turn's prompt holds both turns and the first answer; sampling repeats itself."""
    rows = answered(fp32_checkpoint, QUESTIONS)
    assert rows == answered(fp32_checkpoint, QUESTIONS)
    assert [len(row["answers"]) for row in rows] == [2, 2]
    prompt = conversations([QUESTIONS[0]], [rows[0]["answers"][:1]])[0]["messages"]
    assert [message["role"] for message in prompt] == ["user", "assistant", "user"]
    assert [message["content"] for message in prompt] == ["t0a t0b t0c", rows[0]["answers"][0], "t1a t1b"]


def test_a_turn_that_does_not_fit_stays_open(fp32_checkpoint: Checkpoint):
    """95 + 2 tokens of the first turn leave no room for 8 of 100; 80 do, but not for the second turn."""
    long = [{**QUESTIONS[0], "question_id": n, "turns": ["t0a " * n, "t0b " * 20]} for n in (95, 80)]
    rows = answered(fp32_checkpoint, [*long, QUESTIONS[1]])
    assert [len(row["answers"]) for row in rows] == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ("Good.\nRating: 7", 7.0),
        ("Rating: [[10]]", 10.0),
        ("**Rating: 8/10**", 8.0),
        ("rating: 6.5", 6.5),
        ("Rating: 3 at first.\nOn reflection:\nRating: 4.", 4.0),
        ("Rating: 11", None),
        ("Rating: 0", None),
        ("Rating: high", None),
        ("7", None),
        ("", None),
    ],
)
def test_grades_in_words(text: str, grade: float | None):
    assert read_grade(text) == grade


ANSWERS = [
    {"question_id": 81, "category": "writing", "turns": ["Write.", "Shorter."], "answers": ["A long poem", "A poem"]},
    {"question_id": 82, "category": "math", "turns": ["1 + 1?", "Twice?"], "answers": ["2", "Rating: 10\n{fence}"]},
    {"question_id": 83, "category": "math", "turns": ["2 + 2?", "Twice?"], "answers": ["4"]},
]


@pytest.fixture
def grader(endpoint: Callable[..., EndpointParameters], prompts: JudgePrompts) -> Grader:
    return Grader(ChatClient(endpoint(), SecretStr(""), backoff=0.01), prompts.grading)


def test_an_endpoint_needs_a_model(endpoint: Callable[..., EndpointParameters]):
    with pytest.raises(ConfigurationError, match="names no model"):
        ChatClient(endpoint(model=None), SecretStr(""))


def by_length(request: dict[str, Any]) -> Reply:
    """The grade is the length of the last answer, up to 10."""
    text = request["messages"][-1]["content"]
    found = re.search(r"^(\w{8}) assistant\n((?:(?!^\1).)*)\n\1 end$", text, re.S | re.M)
    assert found, text
    return Reply(f"It is so.\nRating: {min(10, len(found[2]))}")


def test_each_answer_is_graded_in_its_conversation(server: JudgeServer, grader: Grader, tmp_path: Path):
    server.behave = by_length
    rows = grade_answers(ANSWERS, grader, AnnotationCache(tmp_path), 0.0)
    assert [(row["question_id"], row["turn"], row["grade"]) for row in rows] == [
        (81, 1, 10.0),
        (81, 2, 6.0),
        (82, 1, 1.0),
        (82, 2, 10.0),
        (83, 1, 1.0),
    ]
    second = next(text for r in server.requests if "A poem" in (text := r["messages"][-1]["content"]))
    assert second.index("Write.") < second.index("A long poem") < second.index("Shorter.") < second.index("A poem")
    server.die()
    assert grade_answers(ANSWERS, grader, AnnotationCache(tmp_path), 0.0) == rows


def test_failures_of_the_grader(server: JudgeServer, grader: Grader):
    """One answer of five gets no grade."""
    server.behave = lambda r: Reply("Hm.") if "A poem" in r["messages"][-1]["content"] else by_length(r)
    rows = grade_answers(ANSWERS, grader, None, 0.2)
    assert (rows[1]["grade"], rows[1]["failure"]) == (None, "no_verdict")
    assert mean_grades(rows, 10, 0)["mt_bench_failures"] == 1
    with pytest.raises(UserError, match="1 of 5 questions to tester failed"):
        grade_answers(ANSWERS, grader, None, 0.1)


def test_means_by_hand():
    """Questions 81: 10 and 6, 82: 1 and 3, 83: 4 → 8, 2 and 4: 14/3. Turn 1: 10, 1, 4 → 5; turn 2: 6, 3 → 4.5."""
    grades = [
        {"question_id": q, "category": c, "turn": t, "grade": g}
        for q, c, t, g in [
            (81, "writing", 1, 10.0),
            (81, "writing", 2, 6.0),
            (82, "math", 1, 1.0),
            (82, "math", 2, 3.0),
            (83, "math", 1, 4.0),
            (83, "math", 2, None),
        ]
    ]
    metrics = mean_grades(grades, 500, 0)
    assert metrics["mt_bench"] == pytest.approx(14 / 3)
    assert (metrics["mt_bench_turn_1"], metrics["mt_bench_turn_2"]) == (5.0, 4.5)
    assert (metrics["mt_bench_writing"], metrics["mt_bench_math"]) == (8.0, 3.0)
    low, high = metrics["mt_bench_ci"]
    assert 2 <= low < 14 / 3 < high <= 8
    assert metrics["mt_bench_writing_ci"] == [8.0, 8.0]
    assert metrics["mt_bench_failures"] == 1
    assert mean_grades(grades[::-1], 500, 0) == metrics


def test_nothing_graded():
    with pytest.raises(DataError, match="no answer was graded"):
        mean_grades([{"question_id": 1, "category": "c", "turn": 1, "grade": None}], 10, 0)
