"""The data that ships with the project: enough of it, valid, and no leakage between the splits."""

import json
from collections import Counter
from itertools import combinations

import pytest

from benchmarks.instruction_prompts import prompts_of
from configuration import configured
from runs import PROJECT
from selfie.config.gold import GoldParameters
from selfie.datasets import PreferenceDataset, PromptDataset
from selfie.judges.gold import gold_scorer
from selfie.judges.gold.instructions import KINDS, SEEN, instruction_of

RAW = PROJECT / "data/01_raw"
PARAMETERS = configured()["parameters"]
INSTRUCTIONS = configured("instructions")["parameters"]
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
    assert len(rows) == PARAMETERS["seed_labelling"]["pairs"]


def test_the_annotator_agrees_with_each_seed_pair():
    scorer = gold_scorer(GoldParameters.model_validate(PARAMETERS["gold"]))
    gap = PARAMETERS["seed_labelling"]["clear_gap"]
    lines = (RAW / "seed_preferences.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert {row["prompt"] for row in rows} <= set(prompts("seed_prompts"))
    assert all(scorer(row["prompt"], row["chosen"]) >= scorer(row["prompt"], row["rejected"]) + gap for row in rows)


@pytest.mark.parametrize("name", SPLITS)
def test_the_prompts_with_instructions_are_those_that_the_command_makes(name, monkeypatch):
    """So their questions are the demo's, which have no near-duplicates in other splits; kinds are as many of each."""
    monkeypatch.chdir(PROJECT)
    shipped = prompts(f"instructions/{name}")
    assert shipped == prompts_of(name)
    questions = prompts(name)[: len(shipped)]
    assert all(asking.startswith(f"{question} ") for asking, question in zip(shipped, questions, strict=True))
    counts = Counter(instruction_of(asking)[0] for asking in shipped)
    assert set(counts) == set(KINDS if name == "evaluation_prompts" else SEEN)
    assert len(set(counts.values())) == 1


def test_one_answer_of_each_seed_pair_obeys_its_instruction():
    scorer = gold_scorer(GoldParameters.model_validate(INSTRUCTIONS["gold"]))
    rows = [json.loads(line) for line in (RAW / "instructions/seed_preferences.jsonl").read_text().splitlines()]
    assert {row["prompt"] for row in rows} <= set(prompts("instructions/seed_prompts"))
    scores = [(scorer(row["prompt"], row["chosen"]), scorer(row["prompt"], row["rejected"])) for row in rows]
    assert scores == [(1.0, 0.0)] * 62


def test_evaluation_asks_for_words_that_training_does_not():
    def asked(name):
        found = (instruction_of(asking) for asking in prompts(f"instructions/{name}"))
        return {words for kind, words in found if kind in ("begins", "includes")}

    assert asked("evaluation_prompts")
    assert not asked("evaluation_prompts") & (asked("seed_prompts") | asked("prompts"))


@pytest.mark.parametrize(("first", "second"), list(combinations(SPLITS, 2)))
def test_no_near_duplicates_between_splits(first, second):
    """No two prompts share six words in a row or have a Jaccard similarity of words of 0.6."""
    ours, theirs = ([p.lower().split() for p in prompts(name)] for name in (first, second))
    runs = {run: words for words in theirs for run in zip(*(words[i:] for i in range(6)), strict=False)}
    for words in ours:
        assert not any(run in runs for run in zip(*(words[i:] for i in range(6)), strict=False)), words
        for other in theirs:
            shared = len(set(words) & set(other)) / len(set(words) | set(other))
            assert shared < 0.6, (words, other)
