"""Conversations of several turns: who samples, judges, matches and labels has the whole of it before them."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from selfie.config.gold import GoldParameters
from selfie.config.parameters import (
    GenerationParameters,
    JudgingParameters,
    SeedLabellingParameters,
)
from selfie.datasets import CommittedDataset, PreferenceDataset
from selfie.errors import DataError
from selfie.evaluation.annotate import annotate
from selfie.evaluation.significance import preferences_by
from selfie.judges.base import Verdict, ask
from selfie.judges.comparisons import Comparison, ScorerAnnotator
from selfie.judges.prompted_policy import VerdictPrompt
from selfie.judges.response_rewards import response_rewards
from selfie.models.chat_template import as_text
from selfie.models.checkpoint import Checkpoint
from selfie.pipelines.evaluation.nodes import generate_outputs
from selfie.pipelines.seeding import nodes as seeding
from selfie.pipelines.seeding.nodes import label_responses, sample_seeds
from selfie.training.pairs import tokenize

LAST = "t0c"
ONE = [{"role": "user", "content": LAST}]
TALKS = [
    ONE,
    [{"role": "user", "content": "t0a"}, {"role": "assistant", "content": "w01"}, *ONE],
    [{"role": "user", "content": "t0b"}, {"role": "assistant", "content": "w02"}, *ONE],
    [{"role": "system", "content": "w03"}, *ONE],
]
TEXTS = [
    "t0c",
    "User: t0a\n\nAssistant: w01\n\nUser: t0c",
    "User: t0b\n\nAssistant: w02\n\nUser: t0c",
    "System: w03\n\nUser: t0c",
]
GENERATION = GenerationParameters(
    engine="transformers", samples_per_prompt=2, temperature=1.0, top_p=1.0, max_new_tokens=8, batch_tokens=4000
)
PROMPTS = Dataset.from_list([{"prompt_id": str(number), "messages": talk} for number, talk in enumerate(TALKS)])


def test_the_text_of_a_conversation():
    """A single user's turn stays as it is."""
    assert list(map(as_text, TALKS)) == TEXTS


@pytest.fixture(scope="module")
def outputs(tiny_checkpoint: Checkpoint, tmp_path_factory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("w")
    return generate_outputs(PROMPTS, tiny_checkpoint, folder, GENERATION, 1.0, 8, "auto", max_length=64, seed=0)


def test_outputs_hold_the_conversation(outputs: list[dict[str, Any]]):
    """A single turn's record has AlpacaEval's fields as ever."""
    assert [record["instruction"] for record in outputs] == TEXTS
    assert [record.get("messages") for record in outputs] == [None, *TALKS[1:]]


def test_answers_are_matched_by_the_conversation(outputs: list[dict[str, Any]]):
    """In another order, and one of them missing: none is taken for another with the same last turn."""
    asked = []

    def scorer(prompt: str, response: str) -> float:
        asked.append(prompt)
        return float(response.endswith(prompt))

    named = [{**record, "output": f"ours to {record['instruction']}"} for record in outputs]
    baseline = [{**record, "output": f"theirs to {record['instruction']}"} for record in outputs][:0:-1]
    rows = annotate(named, baseline, ScorerAnnotator("gold", scorer))
    assert [row["instruction"] for row in rows] == TEXTS[1:]
    assert all(row[side].endswith(row["instruction"]) for row in rows for side in ("output_1", "output_2"))
    assert set(asked) == set(TEXTS[1:])
    assert set(preferences_by(rows, "instruction")) == {(text, 0) for text in TEXTS[1:]}
    with pytest.raises(DataError, match="the baseline answers none"):
        annotate(named[1:2], named[2:3], ScorerAnnotator("gold", scorer))


def test_another_conversation_is_another_question():
    """To the cache, too, where the last turn is the same."""
    seen: dict[str, Any] = {}

    class Cache:
        get, put, commit = staticmethod(seen.get), staticmethod(seen.__setitem__), staticmethod(lambda: None)

    class Annotator:
        name, identity, depends_on_order = "judge", {"judge": 1}, False

        def judge(self, comparisons):
            yield from ((number, Verdict(1.0)) for number in range(len(comparisons)))

    talks = [None, TALKS[1], TALKS[2]]
    ask(Annotator(), [Comparison("t0c", "w01", "w02", messages) for messages in talks], Cache(), 0.0)
    assert len(seen) == 3


def test_judges_see_the_conversation(tiny_checkpoint: Checkpoint):
    """The gold scorer and the prompted model; the question differs where the last turn is the same."""
    rows = Dataset.from_list(
        [
            {"prompt_id": str(number), "prompt": as_text(talk), "messages": talk, "response": response}
            for number, talk in enumerate(TALKS)
            for response in ("w01 w02", "w05")
        ]
    )
    question = {"template": "{prompt} | {response_1} | {response_2}", "verdicts": ["w00", "w01"]}
    parameters = JudgingParameters(judge="prompted_policy", batch_tokens=512, question=question)
    rewards = response_rewards(rows, parameters, 0.1, None, tiny_checkpoint)
    assert len({round(float(value), 4) for value in rewards[::2]}) == len(TALKS)
    asked = VerdictPrompt(question["template"], *question["verdicts"]).fill(rows[2]["prompt"], "w01 w02", "w05")
    assert asked == f"{TEXTS[1]} | w01 w02 | w05"


def test_labelled_seeds_are_read_back_as_conversations(tiny_checkpoint: Checkpoint, tmp_path: Path, monkeypatch):
    """Each conversation gives a pair of its own responses; the file's prompts are those that were brought."""
    sampled = sample_seeds(PROMPTS, tiny_checkpoint, 2, GENERATION, "auto", 64, seed=0)
    # A tiny random model hardly ever ends an answer, and one that was cut makes no pair.
    responses = sampled.remove_columns("finish_reason").add_column("finish_reason", ["stop"] * len(sampled))
    said: dict[str, set[str]] = {}
    for row in responses:
        said.setdefault(row["prompt"], set()).add(row["response"])
    assert list(said) == TEXTS
    monkeypatch.setattr(seeding, "gold_scorer", lambda name: lambda prompt, response: float(sum(map(ord, response))))
    file = tmp_path / "seeds.jsonl"
    dataset = {"type": "pandas.JSONDataset", "save_args": {"orient": "records", "lines": True, "force_ascii": False}}
    parameters = SeedLabellingParameters(samples_per_prompt=2, pairs=9, clear_gap=0.5)
    labelled = label_responses(responses, parameters, GoldParameters(annotator="synthetic"))
    assert labelled["prompt"][0] == LAST
    CommittedDataset(str(file), dataset).save(labelled)
    pairs = PreferenceDataset(filepath=str(file)).load()
    assert pairs["messages"][:] == TALKS
    for pair, row in zip(pairs, tokenize(pairs, tiny_checkpoint.load_tokenizer(), 64, "seeds"), strict=True):
        assert row["prompt"] == as_text(pair["messages"])
        assert {row["chosen"], row["rejected"]} == said[row["prompt"]]
