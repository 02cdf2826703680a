"""The study of seed pairs: who is labelled, and how a judge's answers are counted."""

import numpy as np
import pytest
import torch
from datasets import Dataset

from benchmarks.seed_pairs import by_check, clear_pairs, table

PASSED = {"best": 3.0, "good": 2.0, "bad": 1.0, "half": 0.0}


def row(prompt: str, response: str, finish_reason: str = "stop") -> dict:
    return {
        "iteration": 0,
        "prompt_id": prompt,
        "prompt": prompt,
        "response": response,
        "finish_reason": finish_reason,
        "prompt_ids": [1],
        "response_ids": [ord(response[1])],
    }


def labelled(cut: bool, apart: int) -> list[tuple[str, str]]:
    rows = [row("p", "half", "length"), row("p", "bad"), row("p", "best"), row("q", "good"), row("q", "bad")]
    passed = torch.tensor([PASSED[one["response"]] for one in rows], dtype=torch.float64)
    pairs = clear_pairs(Dataset.from_list(rows), passed, cut, apart)
    return list(zip(pairs["chosen"], pairs["rejected"], strict=True))


def test_only_whole_answers_are_compared_unless_cut_ones_may_lose():
    assert labelled(cut=True, apart=1) == [("best", "half"), ("good", "bad")]
    assert labelled(cut=False, apart=1) == [("best", "bad"), ("good", "bad")]
    assert labelled(cut=False, apart=2) == [("best", "bad")]


def test_a_judge_is_right_where_it_prefers_more_checks():
    """Prompt p: passes 2, 1 and 0 checks, judged in that order but for the last two; prompt q: no difference."""
    checks = [{"a": True, "b": True}, {"a": True, "b": False}, {"a": False, "b": False}, *[{"a": True, "b": True}] * 2]
    found = by_check(["p", "p", "p", "q", "q"], np.array([3.0, 1.0, 2.0, 1.0, 2.0]), checks)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["compared"] == 3
    assert found["by_check"] == {"a": 0.5, "b": 1.0}
    assert found["ci"] == pytest.approx([2 / 3, 2 / 3])  # of one prompt that tells anything
    assert "| kind | 9 | 0.67 [0.67, 0.67] | 0.50 | 1.00 |" in table({"kind": {"pairs": 9, **found}})
