"""Methods: sets of parameters laid over the files, and the graph that each asks for."""

from pathlib import Path
from typing import Any

import pytest
from kedro.framework.project import pipelines

from benchmarks.method_comparison.__main__ import SYNTHETIC as STUDIED
from configuration import configured, parameters
from runs import session
from selfie.app.hooks import PreflightHooks
from selfie.config.methods import MethodConfigLoader
from selfie.errors import ConfigurationError
from selfie.judges.prompted_policy import VerdictPrompt
from selfie.settings import CONFIG_LOADER_ARGS, HOOKS
from selfie.synthetic.language import QUESTION, VERDICTS
from selfie.tracking.mlflow_hooks import MlflowHooks


def graph(**runtime: Any) -> dict[str, set[str]]:
    """Names of the nodes of ``__default__`` in conf/test, namespace → names."""
    with session(**runtime) as opened:
        opened.load_context()
        namespaces: dict[str, set[str]] = {}
        for node in pipelines["__default__"].nodes:
            namespaces.setdefault(node.namespace or "", set()).add(node.name.removeprefix(f"{node.namespace}."))
    return namespaces


METHODS = sorted(configured("base")["methods"])


def test_there_are_the_papers_rows_and_their_rivals():
    papers = {"initial", "seed_dpo", "full_dpo", "llm_judge", "reward_model", "spa_de", "spa_sr", "spa"}
    assert papers | {"gold_judge", "cdpo", "rdpo", "selfie"} == set(METHODS)
    assert set(STUDIED.split(",")) == {*METHODS, "spa_fast"}  # conf/synthetic's own: spa with selfie's longer steps


@pytest.mark.parametrize("env", ["base", "synthetic", "test", "language", "instructions", "paper", "alpaca"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_in_range_in_every_environment(env: str, method: str):
    """But for the gold judge where there is no gold annotator."""
    if env in {"paper", "alpaca"} and method == "gold_judge":
        with pytest.raises(ConfigurationError, match="gold names no annotator"):
            parameters(env, method=method)
        return
    laid = parameters(env, method=method)
    assert laid.method == method
    if env == "language" and method == "full_dpo":
        assert laid.iterations == 1
    elif method in {"initial", "seed_dpo", "full_dpo"}:
        assert laid.iterations == 0
    else:
        assert laid.iterations is None


def test_a_method_changes_what_it_names_and_nothing_else():
    plain, laid = (parameters("synthetic", **runtime).model_dump() for runtime in ({}, {"method": "cdpo"}))
    assert (laid["training"].pop("loss"), plain["training"].pop("loss")) == ("conservative", "noise_aware")
    assert laid.pop("experiment") == "synthetic_cdpo"
    assert laid.pop("method") == "cdpo"
    assert plain.pop("experiment") == "synthetic"
    assert plain.pop("method") is None
    assert laid == plain


def test_the_papers_ablation():
    """Data expansion alone, with self-refinement, with the de-coupled detector too; selfie beyond it."""
    rows = {name: parameters("synthetic", method=name) for name in ("spa_de", "spa_sr", "spa", "selfie")}
    seen = {
        name: (r.training.label_smoothing, r.training.extrapolation[0], r.training.replay) for name, r in rows.items()
    }
    assert seen == {"spa_de": (0.0, 0.5, 0), "spa_sr": (0.1, 0.0, 0), "spa": (0.1, 0.5, 0), "selfie": (0.1, 0.5, 1)}
    beyond = {n: (row.judging.length, row.judging.weighting, row.training.nll_weight) for n, row in rows.items()}
    papers = dict.fromkeys(("spa_de", "spa_sr", "spa"), ("summed", "even", 0.0))
    assert beyond == papers | {"selfie": ("per_token", "margin", 0.5)}
    support = {n: (row.generation.initial_samples, row.judging.support_percentile) for n, row in rows.items()}
    assert support == dict.fromkeys(papers, (0, 0.0)) | {"selfie": (2, 1.0)}


def test_rivals_of_the_default_keep_the_papers_settings():
    """conf/base is `selfie`; every other method that has iterations says the paper's settings itself."""
    default = parameters("base")
    assert (default.generation.initial_samples, default.judging.support_percentile) == (2, 1.0)
    for method in set(METHODS) - {"initial", "seed_dpo", "full_dpo", "selfie"}:
        laid = parameters("base", method=method)
        assert (laid.generation.initial_samples, laid.judging.support_percentile) == (0, 0.0), method
        assert laid.judging.choose_truncated, method
        assert (laid.judging.weighting, laid.training.replay, laid.training.nll_weight) == ("even", 0, 0.0), method


@pytest.mark.parametrize(
    "changed, problem",
    [
        ({"generation": {"initial_samples": 2}}, "initial_samples 2 leaves no sample of 2 to the policy"),
        ({"judging": {"support_percentile": 1.0}}, "support_percentile is set, but generation.initial_samples is 0"),
    ],
)
def test_a_support_needs_samples_of_both_models(changed: dict[str, Any], problem: str):
    with pytest.raises(ConfigurationError, match=problem):
        parameters("test", **changed)


def test_the_users_parameters_win():
    """Over the method's, and leave its others: in what the loader reads, and in what is checked."""
    read = configured("test", method="spa", training={"label_smoothing": 0.3})["parameters"]["training"]
    assert (read["label_smoothing"], read["extrapolation"]) == (0.3, [0.5, 0.25, 0.125])
    laid = parameters("test", method="spa", training={"label_smoothing": 0.3, "extrapolation": [0.125]}, seed=5)
    assert (laid.training.label_smoothing, laid.training.extrapolation, laid.training.loss) == (
        0.3,
        [0.125],
        "noise_aware",
    )
    assert laid.seed == 5
    assert parameters("test", method="full_dpo").seed_pairs is None
    assert parameters("test", method="full_dpo", seed_pairs=24).seed_pairs == 24


def test_a_method_runs_as_an_experiment_of_its_own():
    """Its name is part of every path, so that methods never mix; language and model of a seed are shared."""
    loader = configured("test", method="spa")
    assert loader["parameters"]["experiment"] == "test_spa"
    assert "/test_spa/" in loader["catalog"]["policy_0"]["filepath"]
    assert loader["catalog"]["initial_model"] == configured("test")["catalog"]["initial_model"]
    assert configured("test")["parameters"]["experiment"] == "test"


@pytest.mark.parametrize("by", ["globals", "SELFIE_EXPERIMENT", "--params"])
def test_methods_of_one_experiment_never_mix(by: str, monkeypatch: pytest.MonkeyPatch):
    """Wherever the experiment's name comes from: paths, lock, checked parameters and MLflow's experiment have both."""
    runtime = {"method": "spa"} | ({"experiment": "mine"} if by == "--params" else {})
    if by == "SELFIE_EXPERIMENT":
        monkeypatch.setenv("SELFIE_EXPERIMENT", "mine")
    expected = "test_spa" if by == "globals" else "mine_spa"
    with session(**runtime) as opened:
        catalog = opened.load_context().catalog
        for name in ("policy_0", "iteration_1.pairs", "run_lock", "mlflow_journal", "summary"):
            assert f"/{expected}/" in str(catalog.get(name)._describe()), name
        hooks = {type(hook): hook for hook in HOOKS}
        assert hooks[PreflightHooks].parameters.experiment == expected
        assert hooks[MlflowHooks].parameters["experiment"] == expected


def test_an_unknown_method_is_named_with_the_nearest():
    with pytest.raises(ConfigurationError, match=r"'selfi'.*no such method\n.*did you mean selfie\?"):
        configured("test", method="selfi")
    with pytest.raises(ConfigurationError, match=r"choose one of initial, .*spa_sr.*gold_judge"):
        configured("test", method="12345")


def test_an_unknown_method_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As an error of the user's, before anything is written."""
    monkeypatch.setenv("SELFIE_DATA", str(tmp_path))
    with pytest.raises(ConfigurationError, match="no such method"):
        graph(method="nothing_like_it")
    assert not any(tmp_path.iterdir())


def test_without_methods_there_is_none(tmp_path: Path):
    """A user's conf/ may lack the file."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "globals.yml").write_text("experiment: mine\n")
    (tmp_path / "local").mkdir()
    with pytest.raises(ConfigurationError, match="choose one of none"):
        MethodConfigLoader(str(tmp_path), runtime_params={"method": "spa"}, **CONFIG_LOADER_ARGS)


@pytest.mark.parametrize("env", ["synthetic", "test"])
def test_the_synthetic_tasks_judge_is_asked_in_its_language(env: str):
    """With the question and the verdicts that its corpus has."""
    question = parameters(env, method="llm_judge").judging.question
    assert (question.template, tuple(question.verdicts)) == (QUESTION, VERDICTS)
    assert set(configured(env)["methods"]) >= set(METHODS)


def test_elsewhere_it_is_asked_in_english():
    question = parameters("base", method="llm_judge").judging.question
    filled = VerdictPrompt(question.template, *question.verdicts).fill("Why?", "Because.", "No idea.")
    assert filled.index("Why?") < filled.index("Because.") < filled.index("No idea.")
    assert question.verdicts == ["A", "B"]


def test_the_graph_has_what_the_method_needs():
    plain, replaying, rewarded = graph(), graph(method="selfie"), graph(method="reward_model")
    assert set(plain) == {"", "initial", "seeding", "iteration_1", "iteration_2"}
    assert replaying == plain
    assert rewarded == plain | {"": plain[""] | {"fit_reward_model"}}


def test_the_humans_pairs_are_trained_on_where_the_method_says_so():
    def inputs(method: str) -> set[str]:
        graph(method=method)
        (node,) = (n for n in pipelines["iteration_1"].nodes if n.name == "iteration_1.train_policy")
        return set(node.inputs)

    assert inputs("selfie") == inputs("spa") | {"seeding.pairs"}


@pytest.mark.parametrize(
    ("judge", "model"), [("prompted_policy", "policy_1"), ("reward_model", "reward_model"), ("gold", None)]
)
def test_the_judge_gets_the_model_it_asks(judge: str, model: str | None):
    """``prompted_policy`` the policy that was sampled from, before the iteration's training."""
    method = {"prompted_policy": "llm_judge", "gold": "gold_judge"}.get(judge, judge)
    graph(method=method)
    (node,) = (n for n in pipelines["__default__"].nodes if n.name == "iteration_2.judge_responses")
    asked = {"policy_1", "reward_model"} & set(node.inputs)
    assert asked == ({model} if model else set())


def test_a_reward_model_that_is_there_is_not_trained():
    """conf/base judges with the one in the catalog."""
    with session("base", method="reward_model") as opened:
        opened.load_context()
        whole = pipelines["__default__"]
        assert "fit_reward_model" not in {node.name for node in whole.nodes}
        assert "reward_model" in whole.inputs()


def test_without_iterations_only_the_seeds_are_trained():
    assert set(graph(method="seed_dpo")) == {"", "initial", "seeding"}
