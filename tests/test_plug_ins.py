"""A judge, an engine, a loss, a dataset and a gold annotator from outside: the examples of docs/architecture.md."""

import importlib
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from configuration import parameters
from runs import PROJECT
from selfie.app.freshness import examine
from selfie.app.preflight import check_inputs
from selfie.config.parameters import JudgingParameters
from selfie.errors import ConfigurationError
from selfie.generation.engine import Request, Sampling
from selfie.judges.response_rewards import response_rewards
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import sampling_arithmetic
from selfie.runtime.random_seeds import derive_seed

EXAMPLES = re.findall(r"```python\n(.*?)```", (PROJECT / "docs/architecture.md").read_text(), re.DOTALL)
BETA = 0.1
LINES_DATASET = """
prompts: {{type: my_package.parts.LinesDataset, filepath: "{}"}}
"""
OWN = {
    "iterations": 1,
    "judging": {"judge": "my_package.parts.priced"},
    "generation": {"engine": "my_package.parts.OneByOne"},
    "gold": {"annotator": "my_package.parts.brief"},
    "seeding": {"loss": "my_package.parts.hinge"},
    "training": {"loss": "my_package.parts.hinge", "detector_warmup": 0.0, "noise_percentile": 50.0},
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's package on Python's path; ``parts`` holds the examples."""
    folder = tmp_path_factory.mktemp("elsewhere") / "my_package"
    folder.mkdir()
    (folder / "parts.py").write_text("\n".join(EXAMPLES))
    (folder / "broken.py").write_text("raise RuntimeError('no licence')")
    (folder / "wrong.py").write_text(
        "def mean(margin, flagged, label_smoothing): return margin.mean()\n"
        "def constant(margin, flagged, label_smoothing): return 0 * flagged\n"
        "def one(scored, context): return [1.0]\n"
        "def nan(scored, context): return [float('nan')] * len(scored)\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder.parent)
        yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def session_of(package: Path, own_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """``session_of(**parameters)``: a session of a user's project whose prompts are lines of text."""
    folder = Path(shutil.copytree(own_project, tmp_path_factory.mktemp("own") / "project"))
    settings = folder / "conf/mine/globals.yml"
    settings.write_text(settings.read_text().replace(str(own_project), str(folder)))
    rows = (folder / "data/01_raw/prompts.jsonl").read_text().splitlines()
    text = folder / "data/01_raw/prompts.txt"
    text.write_text("\n".join(json.loads(row)["prompt"] for row in rows))
    catalog = folder / "conf/mine/catalog.yml"
    (entries, *rest) = re.split(r"^prompts:\n(?:  .*\n)+", catalog.read_text(), flags=re.MULTILINE)
    catalog.write_text(entries + LINES_DATASET.format(text) + "".join(rest))
    bootstrap_project(PROJECT)
    conf = str(folder / "conf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        yield lambda **own: KedroSession.create(PROJECT, env="mine", conf_source=conf, runtime_params=own)


@pytest.fixture(scope="module")
def made(session_of: Any) -> Any:
    """``made(name)`` loads a dataset of one whole run with all of them."""
    with session_of(**OWN) as session:
        session.run()
        yield session.load_context().catalog.load


@pytest.fixture(scope="module")
def parts(made: Any) -> Any:
    """The module itself."""
    return importlib.import_module("my_package.parts")


def test_a_judge(made: Any):
    """The implicit reward less the tokens' price, from the stored log-probs."""
    scored = made("iteration_1.scored_responses").to_list()
    rewards = {
        tuple(row["prompt_ids"] + row["response_ids"]): BETA * (row["policy_log_prob"] - row["initial_log_prob"])
        - 0.05 * len(row["response_ids"])
        for row in scored
    }
    pairs = made("iteration_1.pairs").to_list()
    assert len(pairs) > 10
    for pair in pairs:
        for side in ("chosen", "rejected"):
            assert pair[f"{side}_reward"] == pytest.approx(
                rewards[tuple(pair["prompt_ids"] + pair[f"{side}_ids"])], abs=1e-6
            )


def test_an_engine(made: Any, parts: Any):
    """Opened by hand, it draws what the run has stored."""
    policy: Checkpoint = made("policy_0")
    row = made("iteration_1.responses")[5]
    request = Request(row["prompt_ids"], derive_seed(0, "iteration_1", row["prompt_id"], row["sample"]))
    with parts.OneByOne(policy, 64, 64, sampling_arithmetic("auto", policy)) as engine:
        (drawn,) = engine.generate([request], Sampling(0.7, 1.0, 24))
    assert (drawn.token_ids, drawn.finish_reason) == (row["response_ids"], row["finish_reason"])


@pytest.mark.parametrize("namespace", ["seeding", "iteration_1"])
def test_a_loss(made: Any, namespace: str):
    """The hinge of each margin; a flagged pair has none."""
    log = made(f"{namespace}.training_log").to_list()
    expected = [0.0 if entry["flagged"] else max(0.0, 1 - entry["margin"]) for entry in log]
    assert [entry["loss"] for entry in log] == pytest.approx(expected, abs=1e-6)
    assert any(entry["flagged"] for entry in log) == (namespace == "iteration_1")


def test_a_dataset(made: Any, own_project: Path):
    """Its rows are checked and dealt out as those of a file that the package reads."""
    rows = map(json.loads, (own_project / "data/01_raw/prompts.jsonl").read_text().splitlines())
    asked = [messages[-1]["content"] for messages in made("iteration_1.prompts")["messages"]]
    assert len(asked) == 32
    assert set(asked) <= {row["prompt"] for row in rows}


def test_a_gold_annotator(made: Any):
    """The shorter answer of two wins; two of one length are a draw."""
    rows = made("iteration_1.annotations")
    assert len(rows) == 6  # evaluation prompts
    for row in rows:
        ours, theirs = (len(row[side].split()) for side in ("output_2", "output_1"))
        assert row["preference"] == (2.0 if ours < theirs else 1.0 if theirs < ours else 1.5)
        assert row["annotator"] == "my_package.parts.brief"


@pytest.mark.parametrize(
    ("group", "name", "builtin", "step"),
    [
        ("judging", "judge", "implicit_reward", "judge_responses"),
        ("generation", "engine", "transformers", "generate_responses"),
        ("training", "loss", "robust", "train_policy"),
        ("gold", "annotator", "synthetic", "audit_pairs"),
    ],
)
def test_another_part_makes_its_results_stale(
    made: Any, session_of: Any, group: str, name: str, builtin: str, step: str
):
    with session_of(**{**OWN, group: {**OWN[group], name: builtin}}) as session:
        catalog = session.load_context().catalog
        (node,) = [node for node in pipelines["iteration_1"].nodes if node.name == f"iteration_1.{step}"]
        state = examine(node, catalog)
    assert state.reasons == (f"{group}.{name} was {OWN[group][name]}, is {builtin}",)


REFUSED = {
    "judge": ("judging", "judge", "implicit_rewards", ["'prompted_policy'", "did you mean implicit_reward?"]),
    "engine": ("generation", "engine", "vlm", ["'transformers'", "did you mean vllm?"]),
    "loss": ("seeding", "loss", "robbust", ["'noise_aware'", "did you mean robust?"]),
    "gold annotator": ("gold", "annotator", "sinthetic", ["'style_guide'", "did you mean synthetic?"]),
    "gold of other arguments": ("gold", "annotator", "my_package.parts.hinge", ["(prompt, response)", "missing"]),
    "like nothing known": ("training", "loss", "zzz", ["'zzz'", "or your own as package.module.name"]),
    "no module": ("judging", "judge", "my_package.pats.priced", ["No module named 'my_package.pats'", "PYTHONPATH"]),
    "no such name": ("judging", "judge", "my_package.parts.pricd", ["no attribute 'pricd'"]),
    "broken module": ("training", "loss", "my_package.broken.hinge", ["RuntimeError: no licence"]),
    "not a path": ("training", "loss", "my_package..hinge", ["my_package..hinge can't be imported"]),
    "other arguments": (
        "training",
        "loss",
        "my_package.parts.priced",
        ["(margin, flagged, label_smoothing)", "too many"],
    ),
    "no function": ("generation", "engine", "my_package.parts.torch", ["can't be called with (checkpoint, "]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_name_or_path_that_leads_nowhere_is_refused(package: Path, case: str):
    group, name, value, words = REFUSED[case]
    with pytest.raises(ConfigurationError) as caught:
        parameters("test", **{group: {name: value}})
    assert caught.value.where == f"parameter {group}.{name}"
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("loss", "words"), [("mean", r"shape \[\] for two pairs"), ("constant", "fails on two margins")]
)
def test_a_loss_that_is_none_is_refused_before_anything_runs(package: Path, loss: str, words: str):
    own = parameters("test", training={"loss": f"my_package.wrong.{loss}"})
    with pytest.raises(ConfigurationError, match=rf"training\.loss: my_package\.wrong\.{loss} .*{words}"):
        check_inputs(Pipeline([]), DataCatalog({}), own, iterations=1)


@pytest.mark.parametrize(("judge", "words"), [("one", r"shape \[1\] for 2 responses"), ("nan", "NaN for 2 responses")])
def test_a_judge_gives_one_number_a_response(package: Path, judge: str, words: str):
    scored = datasets.Dataset.from_list([{"response_ids": [1]}, {"response_ids": [2]}])
    parameters = JudgingParameters(judge=f"my_package.wrong.{judge}", batch_tokens=1)
    with pytest.raises(ConfigurationError, match=words):
        response_rewards(scored, parameters, BETA, None)


def test_flagged_pairs_are_shown_to_a_loss_of_ones_own(parts: Any):
    """By hand: margins ½, 2 and −1, the last one flagged."""
    losses = parts.hinge(torch.tensor([0.5, 2.0, -1.0]), torch.tensor([False, False, True]), 0.1)
    assert losses.tolist() == [0.5, 0.0, 0.0]
