"""How seed labels are made where a gold annotator stands for the human."""

import pytest
from datasets import Dataset

from selfie.config.gold import GoldParameters
from selfie.config.parameters import SeedLabellingParameters
from selfie.errors import ConfigurationError
from selfie.pipelines.seeding import nodes

PARAMETERS = SeedLabellingParameters(samples_per_prompt=3, pairs=9, clear_gap=1.0)
GOLD = GoldParameters(annotator="synthetic")


def responses(*said: tuple[str, str]) -> Dataset:
    messages = [{"role": "user", "content": "p"}]
    rows = [{"prompt_id": "p", "prompt": "p", "messages": messages, "response": r, "finish_reason": f} for r, f in said]
    return Dataset.from_list(rows)


@pytest.fixture(autouse=True)
def longer_is_better(monkeypatch):
    monkeypatch.setattr(nodes, "gold_scorer", lambda _: lambda prompt, response: float(len(response)))


def test_an_answer_that_was_cut_makes_no_pair():
    said = responses(("the longest one", "length"), ("long", "stop"), ("a", "length"), ("one", "stop"))
    (pair,) = nodes.label_responses(said, PARAMETERS, GOLD).to_dict("records")
    assert (pair["chosen"], pair["rejected"]) == ("long", "one")
    assert (pair["chosen_finish_reason"], pair["rejected_finish_reason"]) == ("stop", "stop")


def test_with_one_whole_answer_there_is_no_clear_choice():
    with pytest.raises(ConfigurationError, match="no whole response to a prompt is better"):
        nodes.label_responses(responses(("long", "stop"), ("a", "length")), PARAMETERS, GOLD)
