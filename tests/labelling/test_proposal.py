"""``kedro run --pipelines propose_labels``: pairs within the budget, from the model or from a trained policy."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

from runs import PROJECT, copy_of_run, run
from selfie.app.preflight import check_parameters
from selfie.config.labelling import LabellingParameters
from selfie.config.methods import MethodConfigLoader
from selfie.config.parameters import GenerationParameters, JudgingParameters
from selfie.datasets import PairDataset
from selfie.errors import ConfigurationError, DataError, ModelError
from selfie.labelling.label_file import LabelFile
from selfie.labelling.session import LabellingSession
from selfie.models.checkpoint import Checkpoint
from selfie.pipelines.labelling.nodes import (
    SPARE,
    choose_prompts,
    propose_disputed_pairs,
    propose_pairs,
    propose_uncertain_pairs,
    sample_candidates,
)
from selfie.settings import CONFIG_LOADER_ARGS
from selfie.synthetic.language import all_prompts

FILE = "05_model_input/test/proposed_pairs.jsonl"


@pytest.fixture(scope="module")
def finished(finished_run: Path, empty_database: Path, tmp_path_factory: pytest.TempPathFactory):
    """A copy of a finished run, with the policies that it made."""
    with copy_of_run(finished_run, tmp_path_factory.mktemp("run"), empty_database) as folder:
        yield folder


def proposed(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / FILE).read_text().splitlines()]


@pytest.mark.parametrize("selection", ["random", "diverse"])
def test_as_many_pairs_as_the_budget_one_a_prompt(finished: Path, selection: str):
    run("propose_labels", labelling={"budget": 12, "selection": selection})
    rows = proposed(finished)
    assert 0 < len(rows) <= 12
    assert len({row["prompt"] for row in rows}) == len(rows)
    assert len(PairDataset(str(finished / FILE)).load()) == len(rows)
    run("propose_labels", labelling={"budget": 12, "selection": selection}, seed=1)
    assert {row["prompt"] for row in proposed(finished)} != {row["prompt"] for row in rows}


def test_the_next_round_asks_about_other_prompts(finished: Path):
    """Those that were labelled, skipped ones too, do not come again; once all are, it says so."""
    run("propose_labels", labelling={"budget": 4}, experiment="rounds")
    dataset = PairDataset(str(finished / "05_model_input/rounds/proposed_pairs.jsonl"))
    first, _ = dataset.inspect()
    file = LabelFile(finished / "01_raw/labels/rounds", "ana")
    session = LabellingSession(first, file, file.open(), seed=0)
    while pair := session.state()["pair"]:
        session.label(pair["id"], "skip", 0)
    session.close()
    run("propose_labels", labelling={"budget": 80}, experiment="rounds")
    second, _ = dataset.inspect()
    assert len(second) > 40
    assert not {row["prompt_id"] for row in first} & {row["prompt_id"] for row in second}
    labels = finished / "01_raw/labels/rounds"
    with pytest.raises(DataError, match=f"all {len(first)} prompts are labelled"):
        choose_prompts(Dataset.from_list(first), labels, LabellingParameters(), seed=0)


def test_uncertain_pairs_have_the_policys_smallest_margins(finished: Path):
    """Of all 80 prompts: the proposed ones' margins are the smallest of all that the policy's scores give."""
    from datasets import load_from_disk

    run("propose_labels", labelling={"budget": 5, "selection": "uncertain", "policy": "policy_1"})
    scored = load_from_disk(str(finished / "04_feature/test/labelling/scored_responses")).to_list()
    margins = {}
    for first, second in zip(scored[::2], scored[1::2], strict=True):
        assert first["prompt"] == second["prompt"]
        rewards = [0.1 * (row["policy_log_prob"] - row["initial_log_prob"]) for row in (first, second)]
        if first["response"] != second["response"]:
            margins[first["prompt"]] = abs(rewards[0] - rewards[1])
    assert len(margins) > 40
    assert [row["prompt"] for row in proposed(finished)] == sorted(margins, key=lambda prompt: margins[prompt])[:5]


def test_disputed_pairs_come_first_where_the_judges_are_surest(finished: Path):
    """Of all 80 prompts, from what the policy's scores give: first those that the two judges label differently."""
    from datasets import load_from_disk

    run("propose_labels", labelling={"budget": 70, "selection": "disagreement", "policy": "policy_0"})
    scored = load_from_disk(str(finished / "04_feature/test/labelling/scored_responses")).to_list()
    margins = {}
    for first, second in zip(scored[::2], scored[1::2], strict=True):
        summed = [row["policy_log_prob"] - row["initial_log_prob"] for row in (first, second)]
        each = [value / len(row["response_ids"]) for value, row in zip(summed, (first, second), strict=True)]
        if first["response"] != second["response"] and first["response"] and second["response"]:
            margins[first["prompt"]] = (summed[0] - summed[1], each[0] - each[1])
    sizes = [np.sqrt(np.mean(np.square(judge))) for judge in zip(*margins.values(), strict=True)]
    sure = {prompt: min(abs(np.array(pair) / sizes)) for prompt, pair in margins.items()}
    opposite = {prompt for prompt, (summed, each) in margins.items() if summed * each < 0}
    rows = [row["prompt"] for row in proposed(finished)]
    assert len(opposite) > 2
    assert rows[: len(opposite)] == sorted(opposite, key=lambda prompt: -sure[prompt])
    assert (
        rows[len(opposite) :]
        == sorted(margins.keys() - opposite, key=lambda prompt: sure[prompt])[: 70 - len(opposite)]
    )


def test_a_policy_that_is_not_there_or_half_there_is_named_first(finished: Path):
    before = (finished / FILE).read_bytes() if (finished / FILE).exists() else None
    with pytest.raises(ModelError, match=r"policy_7: this policy is not there, or not complete\n.*labelling\.policy"):
        run("propose_labels", labelling={"policy": "policy_7"})
    weights = finished / "06_models/test/policy_2/model.safetensors"
    weights.rename(weights.with_name("elsewhere"))
    with pytest.raises(ModelError, match="policy_2: this policy is not there, or not complete"):
        run("propose_labels", labelling={"policy": "policy_2", "selection": "uncertain"})
    weights.with_name("elsewhere").rename(weights)
    assert ((finished / FILE).read_bytes() if before is not None else None) == before


@pytest.mark.parametrize("selection", ["uncertain", "disagreement"])
def test_what_a_policy_says_needs_a_trained_one(selection: str):
    parameters = MethodConfigLoader(str(PROJECT / "conf"), env="test", **CONFIG_LOADER_ARGS)["parameters"]
    with pytest.raises(ConfigurationError, match=r"parameter labelling.*needs a trained policy.*policy_0"):
        check_parameters(parameters, {"labelling": {"selection": selection}})


def rows(*responses: str, cut: str = "", **columns: list[Any]) -> Dataset:
    """One prompt's; ``cut`` names those that the token limit cut."""
    row = {"prompt_id": "a", "messages": [{"role": "user", "content": "Why?"}]}
    every = [{**row, "response": said, "finish_reason": "length" if said in cut else "stop"} for said in responses]
    return Dataset.from_list([{**row, **{n: v[k] for n, v in columns.items()}} for k, row in enumerate(every)])


def proposal(table: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(table["response_1"], table["response_2"], strict=True))


def test_responses_that_nobody_can_label_are_left_out():
    (row,) = propose_pairs(rows("", "So.", " So.", "\x1b[2J", "Thus."), 5, True).to_dict("records")
    assert (row["prompt"], row["response_1"], row["response_2"]) == ("Why?", "So.", "Thus.")
    with pytest.raises(DataError, match="no prompt has two different responses"):
        propose_pairs(rows("So.", "", "So. "), 5, True)


SCORED = {"policy_log_prob": [-1.0, -2.0, -6.0], "initial_log_prob": [-4.0, -4.0, -7.0]}  # r/β: 3, 2, 1
LENGTHS = {"response_ids": [[1, 1, 1], [1], [1, 1]]}  # a token: 1, 2, 1/2


def test_which_two_of_three_responses_a_policy_disputes():
    """Margins of A and B: 1 and −1, of A and C: 2 and ½, of B and C: 1 and 3/2: only about A and B they differ."""
    judging = JudgingParameters(judge="gold", batch_tokens=1)  # the loop's judge does not matter here
    three = rows("A", "B", "C", **SCORED, **LENGTHS)
    assert proposal(propose_disputed_pairs(three, 5, judging, 0.1)) == [("A", "B")]
    assert proposal(propose_uncertain_pairs(three, 5, judging, 0.1)) == [("A", "C")]


def test_an_empty_response_is_not_proposed_however_disputed():
    """One token is a whole response's reward: of all pairs the judges would dispute its pair with A most."""
    log_probs = {"policy_log_prob": [-1.0, -2.0, -2.0], "initial_log_prob": [-4.0, -4.0, -4.5]}  # r/β: 3, 2, 2.5
    judging = JudgingParameters(judge="implicit_reward", batch_tokens=1)
    lengths = {"response_ids": [[1, 1, 1], [1], [1, 1]]}
    assert proposal(propose_disputed_pairs(rows("A", "B", "C", **log_probs, **lengths), 5, judging, 0.1)) == [
        ("A", "B")
    ]
    assert proposal(propose_disputed_pairs(rows("A", "", "C", **log_probs, **lengths), 5, judging, 0.1)) == [("A", "C")]


@pytest.mark.parametrize("cut", ["B", "BC"])
def test_a_cut_response_is_not_worth_a_label_where_it_may_not_be_chosen(cut: str):
    """``judging.choose_truncated`` is what decides, for every rule alike."""
    three = rows("A", "B", "C", cut=cut, **SCORED, **LENGTHS)

    def propose(choose_truncated: bool) -> list[list[tuple[str, str]]]:
        judging = JudgingParameters(judge="implicit_reward", batch_tokens=1, choose_truncated=choose_truncated)
        by_policy = (propose_uncertain_pairs, propose_disputed_pairs)
        tables = [propose_pairs(three, 5, choose_truncated), *(rule(three, 5, judging, 0.1) for rule in by_policy)]
        return [proposal(table) for table in tables]

    assert propose(True) == [[("A", "B")], [("A", "C")], [("A", "B")]]
    if cut == "B":
        assert propose(False) == [[("A", "C")]] * 3
    else:
        with pytest.raises(DataError, match=r"two different responses that may be chosen\n.*max_new_tokens"):
            propose(False)


@pytest.mark.parametrize(("choose_truncated", "samples"), [(True, 2), (False, 2), (False, 5)])
def test_spare_prompts_fill_the_budget(
    tiny_checkpoint: Checkpoint,
    tmp_path: Path,
    choose_truncated: bool,
    samples: int,
    caplog: pytest.LogCaptureFixture,
):
    """Two of a random model's responses are seldom both whole: most prompts give no pair then."""
    asked = [{"role": "user", "content": text} for text in all_prompts()[:80]]
    prompts = Dataset.from_list([{"prompt_id": str(k), "messages": [asked[k]]} for k in range(len(asked))])
    labelling = LabellingParameters(budget=8, samples_per_prompt=samples)
    chosen = choose_prompts(prompts, tmp_path / "labels", labelling, seed=0)
    assert len(chosen) == (1 + SPARE) * labelling.budget
    generation = GenerationParameters(
        engine="transformers",
        samples_per_prompt=2,
        temperature=1.0,
        top_p=1.0,
        max_new_tokens=16,
        batch_tokens=4096,
        shard_rows=4,
    )
    inputs = (tiny_checkpoint, tmp_path, generation, labelling, choose_truncated, "float32", 64, 0)
    responses = sample_candidates(chosen, *inputs)
    sampled = len(set(responses["prompt_id"]))
    table = propose_pairs(responses, labelling.budget, choose_truncated)
    assert len(responses) == samples * sampled
    if choose_truncated:
        assert len(table) == sampled == labelling.budget
    else:
        ends = {*table["response_1_finish_reason"], *table["response_2_finish_reason"]}
        assert ends == {"stop"}
        few = samples == 2
        assert (len(table) < labelling.budget, sampled == len(chosen)) == (few, few)
        assert ("gave a pair that is worth a label: for more, raise labelling.samples_per_prompt" in caplog.text) is few
    assert sample_candidates(chosen, *inputs)["response"][:] == responses["response"][:]  # from the shards
