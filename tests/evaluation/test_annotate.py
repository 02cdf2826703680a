"""Pairwise annotations: who is output 1, what a draw is, which answers are compared, and what is kept."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge_server import JudgeServer, Reply, longer_wins, shown_answers
from selfie.config.parameters import JudgePrompts
from selfie.errors import DataError, UserError
from selfie.evaluation.annotate import AnnotationOptions, annotate
from selfie.judges.comparisons import ScorerAnnotator
from selfie.judges.openai_api import LlmAnnotator
from selfie.storage.annotation_cache import COMMIT_EVERY, AnnotationCache

MakeJudge = Callable[..., LlmAnnotator]
BY_LENGTH = ScorerAnnotator("length", lambda instruction, output: float(len(output)))


def records(generator: str, **outputs: str) -> list[dict[str, str]]:
    return [{"instruction": i, "output": o, "generator": generator} for i, o in outputs.items()]


def answers(generator: str, number: int, length: int = 0) -> list[dict[str, str]]:
    """Answers to as many instructions, the later the longer."""
    return records(generator, **{f"i{n}": f"{generator} " + "x" * (n + length) for n in range(number)})


def test_preferences_by_hand():
    """The model's answer to a is longer (2), to b shorter (1), to c as long (1.5)."""
    annotations = annotate(
        records("policy_1", a="long answer", b="no", c="same"),
        records("initial", c="size", b="a lot of words", a="short"),
        BY_LENGTH,
    )
    assert [(row["instruction"], row["preference"]) for row in annotations] == [("a", 2.0), ("b", 1.0), ("c", 1.5)]
    assert annotations[0] == {
        "index": 2,
        "instruction": "a",
        "generator_1": "initial",
        "output_1": "short",
        "generator_2": "policy_1",
        "output_2": "long answer",
        "annotator": "length",
        "preference": 2.0,
        "score_1": 5.0,
        "score_2": 11.0,
    }


def test_the_annotator_sees_the_instruction():
    """An answer is scored for its own instruction: here, whether it repeats it."""
    echo = ScorerAnnotator("echo", lambda i, o: float(i in o))
    (annotation,) = annotate(records("policy_1", sky="the sky"), records("initial", sky="the sea"), echo)
    assert (annotation["score_2"], annotation["score_1"]) == (1.0, 0.0)


def test_instructions_of_one_side_are_left_out_and_counted(caplog: pytest.LogCaptureFixture):
    annotations = annotate(records("p", a="x", b="y"), records("i", b="z", c="w", d="v"), BY_LENGTH)
    assert [row["instruction"] for row in annotations] == ["b"]
    assert "1 of the model's 2 answers and 2 of the baseline's 3" in caplog.text


def test_a_baseline_of_other_instructions_is_refused():
    with pytest.raises(DataError, match="the baseline answers none of their instructions"):
        annotate(records("p", a="x"), records("i", b="z"), BY_LENGTH)


def test_equal_instructions_are_compared_in_their_order(caplog: pytest.LogCaptureFixture):
    """Two conversations may end with the same words: each answer belongs to its own; a third has no counterpart."""
    ours = records("p", more="1") + records("p", more="22") + records("p", more="55555")
    theirs = records("i", more="333") + records("i", more="4444")
    annotations = annotate(ours, theirs, BY_LENGTH)
    assert [(row["output_2"], row["output_1"]) for row in annotations] == [("1", "333"), ("22", "4444")]
    assert "1 of the model's 3 answers" in caplog.text


def test_a_single_row(server: JudgeServer, judge: MakeJudge):
    (row,) = annotate(records("p", a="longer"), records("i", a="long"), judge())
    assert row["preference"] == 2.0


def test_both_orders_are_averaged(server: JudgeServer, judge: MakeJudge):
    """A judge that always says 1 prefers neither answer: 2 and 1 in the two orders."""
    server.behave = lambda request: Reply("1")
    annotations = annotate(answers("p", 3), answers("i", 3), judge(), AnnotationOptions("both"))
    assert [row["preference"] for row in annotations] == [1.5] * 3
    assert {(row["preference_baseline_first"], row["preference_model_first"]) for row in annotations} == {(1.0, 2.0)}
    assert len(server.requests) == 6


def test_a_random_order_is_drawn_by_the_seed_and_not_by_the_row(server: JudgeServer, judge: MakeJudge):
    """The honest judge's preferences survive the change of places; each question is asked once."""
    ours, theirs = answers("p", 40, length=1), answers("i", 40)

    def orders(seed: int, rows: list[dict[str, str]]) -> dict[str, bool]:
        annotations = annotate(rows, theirs, judge(), AnnotationOptions("random", seed=seed))
        assert {row["preference"] for row in annotations} == {2.0}
        assert all(
            (r["preference_model_first"] is None) != (r["preference_baseline_first"] is None) for r in annotations
        )
        return {row["instruction"]: row["preference_model_first"] is not None for row in annotations}

    first = orders(0, ours)
    assert 8 < sum(first.values()) < 32
    assert len(server.requests) == 40
    assert orders(0, ours[::-1]) == first
    assert orders(1, ours) != first


def test_identical_answers_are_a_draw_that_costs_nothing(server: JudgeServer, judge: MakeJudge):
    annotations = annotate(answers("m", 5), answers("m", 5), judge())
    assert [row["preference"] for row in annotations] == [1.5] * 5
    assert not server.requests


def test_a_second_run_asks_nothing(server: JudgeServer, judge: MakeJudge, tmp_path: Path):
    ours, theirs = answers("p", 30), answers("i", 30)
    first = annotate(ours, theirs, judge(price={"prompt": 1.0, "completion": 1.0}), cache=AnnotationCache(tmp_path))
    assert len(server.requests) == 60
    server.die()
    second = annotate(ours, theirs, judge(price={"prompt": 1.0, "completion": 1.0}), cache=AnnotationCache(tmp_path))
    assert second == first
    assert first[0]["prompt_tokens"] == 200
    assert first[0]["price_per_example"] == pytest.approx(204e-6)


@pytest.mark.parametrize("changed", ["model", "temperature", "base_url", "version", "text", "answer", "instruction"])
def test_whatever_a_verdict_depends_on_makes_it_another_question(
    server: JudgeServer, judge: MakeJudge, prompts: JudgePrompts, tmp_path: Path, changed: str
):
    theirs, ours = records("i", a="short"), records("p", a="longer")
    annotate(ours, theirs, judge(), cache=AnnotationCache(tmp_path))
    again = judge()
    if changed in ("model", "temperature", "base_url"):
        again = judge(**{changed: {"model": "other", "temperature": 0.1, "base_url": f"{server.url}/"}[changed]})
    elif changed in ("version", "text"):
        change = {"version": 2} if changed == "version" else {"system": "Judge."}
        again = LlmAnnotator(again.client, prompts.pairwise.model_copy(update=change))
    elif changed == "answer":
        ours = records("p", a="longer!")
    else:
        theirs, ours = records("i", b="short"), records("p", b="longer")
    annotate(ours, theirs, again, cache=AnnotationCache(tmp_path))
    assert len(server.requests) == 4


def test_the_baselines_name_does_not_matter_to_the_cache(server: JudgeServer, judge: MakeJudge, tmp_path: Path):
    """Nor do the row and the side on which a text stands: the same two answers in the same order are one question."""
    annotate(records("p", a="longer"), records("i", a="short"), judge(), cache=AnnotationCache(tmp_path))
    turned = annotate(records("q", a="short"), records("j", a="longer"), judge(), cache=AnnotationCache(tmp_path))
    assert turned[0]["preference"] == 1.0
    assert len(server.requests) == 2


def test_failures_are_counted_named_and_asked_again(
    server: JudgeServer, judge: MakeJudge, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """2 of 20 questions fail, a tenth: they have no preference, and the next run asks these two alone."""
    server.behave = lambda request: (
        Reply("banana") if "\ni3\n" in request["messages"][-1]["content"] else longer_wins(request)
    )
    ours, theirs = answers("p", 10, length=1), answers("i", 10)
    first = annotate(ours, theirs, judge(), AnnotationOptions(max_failures=0.1), AnnotationCache(tmp_path))
    assert [row["preference"] for row in first] == [2.0] * 3 + [None] + [2.0] * 6
    assert first[3]["failure"] == "no_verdict"
    assert "2 of 20 questions to tester failed (no_verdict 2; last: 'banana')" in caplog.text
    server.behave, asked = longer_wins, len(server.requests)
    second = annotate(ours, theirs, judge(), AnnotationOptions(max_failures=0.1), AnnotationCache(tmp_path))
    assert second[3]["preference"] == 2.0
    assert "failure" not in second[3]
    assert len(server.requests) == asked + 2


def test_one_failed_order_is_a_failure_of_both(server: JudgeServer, judge: MakeJudge):
    """Half a verdict has the position's bias in it."""
    server.behave = lambda request: Reply("banana" if shown_answers(request)[0].startswith("p") else "1")
    (row,) = annotate(answers("p", 1), answers("i", 1), judge())
    assert (row["preference"], row["preference_baseline_first"], row["preference_model_first"]) == (None, 1.0, None)


def test_a_judge_that_disappears_half_way(server: JudgeServer, judge: MakeJudge, tmp_path: Path):
    """After 30 answers connections are refused: the run stops soon, keeps the 30, and the next one asks the rest."""
    calls = count(1)

    def die_after_30(request: dict[str, Any]) -> Reply:
        if next(calls) > 30:
            server.die()
            return Reply(status=0)
        return longer_wins(request)

    server.behave = die_after_30
    ours, theirs = answers("p", 100, length=1), answers("i", 100)
    alive = judge(concurrency=1, attempts=2)
    with pytest.raises(UserError, match=r"11 of 200 questions to tester failed \(unreachable 11") as caught:
        annotate(ours, theirs, alive, AnnotationOptions(max_failures=0.05), AnnotationCache(tmp_path))
    assert "only what it has not answered is asked again" in caught.value.remedy
    server.behave, server.requests = longer_wins, []
    server.start(alive.client.parameters.base_url)
    complete = annotate(ours, theirs, alive, AnnotationOptions(max_failures=0.05), AnnotationCache(tmp_path))
    assert {row["preference"] for row in complete} == {2.0}
    assert len(server.requests) == 170


def test_up_to_the_threshold_the_run_goes_on(server: JudgeServer, judge: MakeJudge):
    server.behave = lambda request: Reply("banana")
    rows = annotate(answers("p", 3), answers("i", 3), judge(), AnnotationOptions(max_failures=1.0))
    assert [row["preference"] for row in rows] == [None] * 3
    with pytest.raises(UserError, match="no_verdict"):
        annotate(answers("p", 3), answers("i", 3), judge(), AnnotationOptions(max_failures=0.0))


KILLED = """
import sys
from pathlib import Path
from pydantic import SecretStr
from selfie.storage.annotation_cache import AnnotationCache
from selfie.evaluation.annotate import annotate
from selfie.judges.openai_client import ChatClient
from selfie.judges.openai_api import LlmAnnotator
from selfie.config.parameters import EndpointParameters, JudgePrompt
import json
given = json.loads(Path(sys.argv[1]).read_text())
client = ChatClient(EndpointParameters(**given["endpoint"]), SecretStr(""))
annotator = LlmAnnotator(client, JudgePrompt(**given["prompt"]))
annotate(given["ours"], given["theirs"], annotator, cache=AnnotationCache(Path(given["cache"])))
"""


def test_a_killed_run_loses_no_more_than_one_commit(
    server: JudgeServer, judge: MakeJudge, prompts: JudgePrompts, tmp_path: Path
):
    """SIGKILL while question 180 of 200 is open: at most 25 verdicts and the four in flight are asked again."""
    ours, theirs = answers("p", 100, length=1), answers("i", 100)
    calls = count(1)

    def kill_at_180(request: dict[str, Any]) -> Reply:
        if next(calls) == 180:
            os.kill(process.pid, signal.SIGKILL)
        return longer_wins(request)

    server.behave = kill_at_180
    annotator = judge()
    given = {
        "endpoint": annotator.client.parameters.model_dump(),
        "prompt": prompts.pairwise.model_dump(),
        "ours": ours,
        "theirs": theirs,
        "cache": str(tmp_path / "cache"),
    }
    arguments = tmp_path / "arguments.json"
    arguments.write_text(json.dumps(given))
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(arguments)])
    assert process.wait(300) == -signal.SIGKILL
    server.behave, asked = longer_wins, len(server.requests)
    complete = annotate(ours, theirs, annotator, cache=AnnotationCache(tmp_path / "cache"))
    assert {row["preference"] for row in complete} == {2.0}
    assert 20 <= len(server.requests) - asked <= 20 + COMMIT_EVERY + 2 * 4


def test_a_damaged_file_of_the_cache_costs_its_questions_alone(
    server: JudgeServer, judge: MakeJudge, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    ours, theirs = answers("p", 50), answers("i", 50)
    annotate(ours, theirs, judge(), cache=AnnotationCache(tmp_path))
    files = sorted(tmp_path.glob("*.jsonl"))
    assert len(files) == 100 // COMMIT_EVERY
    files[0].write_text(files[0].read_text()[:-40])
    annotate(ours, theirs, judge(), cache=AnnotationCache(tmp_path))
    assert len(server.requests) == 100 + COMMIT_EVERY
    assert files[0].name in caplog.text


@given(st.lists(st.tuples(st.sampled_from("abc"), st.text("xy", max_size=3)), max_size=8), st.randoms())
def test_the_order_of_rows_never_matters(rows: list[tuple[str, str]], random: Any):
    """Of the baseline's, where every instruction is there once."""
    theirs = records("i", a="x", b="xx", c="")
    ours = [{"instruction": i, "output": o, "generator": "p"} for i, o in dict(rows).items()]
    shuffled = random.sample(theirs, 3)
    assert strip(annotate(ours, theirs, BY_LENGTH)) == strip(annotate(ours, shuffled, BY_LENGTH))


def strip(annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "index"} for row in annotations]
