"""The data that ships with the project: enough of it, valid, and no leakage between the splits."""

import json
from itertools import combinations
from pathlib import Path

import pytest

from selfie.datasets import PreferenceDataset, PromptDataset
from selfie.judges.gold.plain_language import plain_language

RAW = Path(__file__).parents[1] / "data/01_raw"
SPLITS = ("seed_prompts", "prompts", "evaluation_prompts")


def prompts(name):
    return [json.loads(line)["prompt"] for line in (RAW / f"{name}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("name", "least"), [("prompts", 600), ("evaluation_prompts", 100), ("seed_prompts", 100)])
def test_prompts_are_enough_and_distinct(name, least):
    rows = PromptDataset(filepath=str(RAW / f"{name}.jsonl")).load()
    assert len(rows) >= least
    assert len(set(rows["prompt_id"])) == len(rows)


def test_seed_pairs_are_enough_and_the_annotator_agrees_with_each():
    rows = PreferenceDataset(filepath=str(RAW / "seed_preferences.jsonl")).load()
    assert len(rows) >= 100
    assert {row["messages"][0]["content"] for row in rows} <= set(prompts("seed_prompts"))
    assert all(plain_language(row["chosen"]) >= plain_language(row["rejected"]) + 8 for row in rows)


@pytest.mark.parametrize(("first", "second"), combinations(SPLITS, 2))
def test_no_near_duplicates_between_splits(first, second):
    """No two prompts share six words in a row or have a Jaccard similarity of words of 0.6."""
    ours, theirs = ([p.lower().split() for p in prompts(name)] for name in (first, second))
    runs = {run: words for words in theirs for run in zip(*(words[i:] for i in range(6)), strict=False)}
    for words in ours:
        assert not any(run in runs for run in zip(*(words[i:] for i in range(6)), strict=False)), words
        for other in theirs:
            shared = len(set(words) & set(other)) / len(set(words) | set(other))
            assert shared < 0.6, (words, other)
