"""The data that ships with the project: enough of it, valid, and no leakage between the splits."""

import json
from itertools import combinations

import pytest

from configuration import configured
from runs import PROJECT
from selfie.config.gold import GoldParameters
from selfie.datasets import PreferenceDataset, PromptDataset
from selfie.judges.gold import gold_scorer

RAW = PROJECT / "data/01_raw"
PARAMETERS = configured()["parameters"]
SPLITS = ("seed_prompts", "prompts", "evaluation_prompts")


def prompts(name):
    return [json.loads(line)["prompt"] for line in (RAW / f"{name}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("name", "least"), [("prompts", 400), ("evaluation_prompts", 140), ("seed_prompts", 300)])
def test_prompts_are_enough_and_distinct(name, least):
    rows = PromptDataset(filepath=str(RAW / f"{name}.jsonl")).load()
    assert len(rows) >= least
    assert len(set(rows["prompt_id"])) == len(rows)


def test_there_are_as_many_seed_pairs_as_the_demo_takes():
    rows = PreferenceDataset(filepath=str(RAW / "seed_preferences.jsonl")).load()
    assert len(rows) >= PARAMETERS["seed_pairs"]


def test_the_annotator_agrees_with_each_seed_pair():
    scorer = gold_scorer(GoldParameters.model_validate(PARAMETERS["gold"]))
    gap = PARAMETERS["seed_labelling"]["clear_gap"]
    lines = (RAW / "seed_preferences.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert {row["prompt"] for row in rows} <= set(prompts("seed_prompts"))
    assert all(scorer(row["prompt"], row["chosen"]) >= scorer(row["prompt"], row["rejected"]) + gap for row in rows)


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
