"""``kedro run --pipelines propose_labels``: pairs within the budget, from the model or from a trained policy."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from runs import PROJECT, run, write_to
from selfie.app.preflight import check_parameters
from selfie.config.labelling import LabellingParameters
from selfie.config.methods import MethodConfigLoader
from selfie.datasets import PairDataset
from selfie.errors import ConfigurationError, DataError, ModelError
from selfie.labelling.label_file import LabelFile
from selfie.labelling.session import LabellingSession
from selfie.pipelines.labelling.nodes import choose_prompts, propose_pairs
from selfie.settings import CONFIG_LOADER_ARGS

FILE = "05_model_input/test/proposed_pairs.jsonl"


@pytest.fixture(scope="module")
def finished(finished_run: Path, empty_database: Path, tmp_path_factory: pytest.TempPathFactory):
    """A copy of a finished run, with the policies that it made."""
    folder = Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("run") / "data"))
    with pytest.MonkeyPatch.context() as patch:
        write_to(folder, patch, empty_database)
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


def test_uncertainty_needs_a_trained_policy():
    parameters = MethodConfigLoader(str(PROJECT / "conf"), env="test", **CONFIG_LOADER_ARGS)["parameters"]
    with pytest.raises(ConfigurationError, match=r"parameter labelling.*needs a trained policy.*policy_0"):
        check_parameters(parameters, {"labelling": {"selection": "uncertain"}})


def rows(*responses: str) -> Dataset:
    """One prompt's."""
    row = {"prompt_id": "a", "messages": [{"role": "user", "content": "Why?"}], "finish_reason": "stop"}
    return Dataset.from_list([{**row, "response": response} for response in responses])


def test_responses_that_nobody_can_label_are_left_out():
    (row,) = propose_pairs(rows("", "So.", " So.", "\x1b[2J", "Thus."), 5).to_dict("records")
    assert (row["prompt"], row["response_1"], row["response_2"]) == ("Why?", "So.", "Thus.")
    with pytest.raises(DataError, match="no prompt has two different responses"):
        propose_pairs(rows("So.", "", "So. "), 5)
