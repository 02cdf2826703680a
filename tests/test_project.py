"""The project as its users run it: a whole run in ``conf/test``, its parts alone, and every environment's catalog."""

import json
import re

import mlflow
import numpy as np
import pytest
from datasets import load_from_disk
from kedro.framework.project import pipelines
from kedro.framework.startup import bootstrap_project

from runs import PROJECT, copy_of_run, run, session, write_to
from selfie.errors import ModelError
from selfie.synthetic.language import gold_reward


@pytest.fixture(scope="module")
def whole_run(finished_run, empty_database, tmp_path_factory):
    """A copy of the finished run; yields the folder, to which further runs write."""
    with copy_of_run(finished_run, tmp_path_factory.mktemp("run"), empty_database) as folder:
        yield folder


def stored(folder, path):
    """A stage's rows."""
    return load_from_disk(str(folder / path))


@pytest.fixture
def summary(whole_run):
    return json.loads((whole_run / "08_reporting/test/summary.json").read_text())


def test_summary_has_every_policy_with_its_figures(summary):
    assert summary["experiment"] == "test"
    assert summary["model"] == "initial_model"  # no path of this machine
    assert [row["name"] for row in summary["iterations"]] == ["initial", "policy_0", "policy_1", "policy_2"]
    initial, seeded, *iterations = summary["iterations"]
    assert initial["win_rate"] == 50.0
    assert initial["n_pairs"] is None
    assert seeded["label_accuracy"] is None
    assert seeded["n_pairs"] == 16
    for row in iterations:
        low, high = row["win_rate_ci"]
        assert 0 <= low <= row["win_rate"] <= high <= 100
        assert 0 <= row["label_accuracy"] <= 1
        assert 0 < row["n_pairs"] <= 48
        assert row["perplexity_ratio"] > 0
        assert row["drifted"] is bool(row["drift_reasons"])
        assert all(row["seconds"][stage] > 0 for stage in ("generation", "judging", "training", "evaluation"))
    for row in summary["iterations"]:
        assert all(0 <= row[name] <= 1 for name in ("on_topic", "truncated"))
        assert row["style_guide"] is None  # the synthetic task has none
    assert (initial["perplexity_ratio"], initial["drifted"]) == (1.0, False)
    assert 0 < summary["peak_rss_gib"] < 6
    assert summary["wall_seconds"] >= sum(s or 0 for row in summary["iterations"] for s in row["seconds"].values()) - 1


def test_labels_follow_the_judgment_of_the_previous_policy(whole_run):
    """The stored pairs obey β·[log π_{i-1}(y) − log π_init(y)], chosen above rejected, on the sampled token ids."""
    responses = stored(whole_run, "04_feature/test/iteration_2/scored_responses").to_list()
    reward = {
        tuple(row["prompt_ids"] + row["response_ids"]): 0.1 * (row["policy_log_prob"] - row["initial_log_prob"])
        for row in responses
    }
    pairs = stored(whole_run, "05_model_input/test/iteration_2/pairs").to_list()
    assert pairs
    for pair in pairs:
        chosen, rejected = (reward[tuple(pair["prompt_ids"] + pair[f"{side}_ids"])] for side in ("chosen", "rejected"))
        assert pair["margin"] == pytest.approx(chosen - rejected)
        assert pair["margin"] >= 0


def test_no_prompt_is_used_twice(whole_run):
    first, second = (set(stored(whole_run, f"02_intermediate/test/iteration_{k}/prompts")["prompt_id"]) for k in (1, 2))
    assert (len(first), len(second)) == (32, 48)
    assert not first & second


def test_mlflow_has_one_parent_and_a_child_for_every_policy(whole_run):
    mlflow.set_tracking_uri(f"sqlite:///{whole_run}/mlflow.db")
    runs = mlflow.search_runs(experiment_names=["test"], output_format="list")
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    (parent,) = [run for run in parents if run.info.run_name.startswith("test: whole loop")]
    children = {run.info.run_name: run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id}
    assert set(children) == {"initial", "policy_0", "policy_1", "policy_2"}
    assert {"win_rate", "avg_length", "label_accuracy", "train_loss"} <= children["policy_2"].data.metrics.keys()
    assert {"ece", "flip_rate", "kl_from_initial_ci_low", "repetition", "perplexity_ratio", "on_topic"} <= children[
        "policy_2"
    ].data.metrics.keys()
    assert children["policy_1"].data.metrics.keys() >= children["initial"].data.metrics.keys()
    assert {"git_commit", "config_hash"} <= parent.data.tags.keys()
    assert parent.data.params["training.label_smoothing"] == "0.1"
    client = mlflow.MlflowClient()
    curve = client.get_metric_history(parent.info.run_id, "win_rate")
    assert [point.step for point in curve] == [0, 1, 2]
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} >= {
        "summary.json",
        "report.md",
        "report.html",
    }
    assert {file.path for file in client.list_artifacts(children["policy_2"].info.run_id)} >= {
        "examples.json",
        "reliability.html",
        "margins.html",
        "lengths.html",
    }
    assert parent.data.tags["mlflow.source.name"] == "kedro run --env test"
    assert {run.data.tags["model"] for run in (parent, *children.values())} == {"initial_model"}
    assert {run.data.tags["seed"] for run in (parent, *children.values())} == {"0"}
    assert {data.dataset.name for data in parent.inputs.dataset_inputs} >= {"prompts", "evaluation_prompts"}
    assert all(run.inputs.dataset_inputs and run.outputs.model_outputs for run in (parent, *children.values()))
    places = {n: client.get_metric_history(r.info.run_id, "avg_length")[0].step for n, r in children.items()}
    assert places == {"initial": -1, "policy_0": 0, "policy_1": 1, "policy_2": 2}
    models = {model.name: model for model in client.search_logged_models([parent.info.experiment_id])}
    assert models["policy_1"].source_run_id == children["policy_1"].info.run_id
    read = client.get_run(children["policy_2"].info.run_id).inputs.model_inputs
    assert [entry.model_id for entry in read] == [models["policy_1"].model_id]


def test_diagnostics_follow_from_what_the_run_left(whole_run):
    """Recomputed from the stored rows with other means."""
    measured = json.loads((whole_run / "08_reporting/test/iteration_2/diagnostics.json").read_text())
    scored = stored(whole_run, "04_feature/test/iteration_2/scored_responses").to_pandas()
    assert measured["kl_from_initial"] == pytest.approx((scored["policy_log_prob"] - scored["initial_log_prob"]).mean())
    low, high = measured["kl_from_initial_ci"]
    assert low < measured["kl_from_initial"] < high
    pairs = stored(whole_run, "05_model_input/test/iteration_2/pairs").to_pandas()
    again = stored(whole_run, "04_feature/test/iteration_2/rejudged_pairs").to_pandas()
    assert len(again) == len(pairs)
    assert measured["flip_rate"] == (again["next_margin"] < 0).mean()
    assert again["next_margin"].corr(pairs["margin"]) > 0.5  # the next policy has learnt these very labels
    longer = pairs["chosen_ids"].str.len() - pairs["rejected_ids"].str.len()
    assert measured["longer_chosen"] == pytest.approx((longer[longer != 0] > 0).mean())
    outputs = json.loads((whole_run / "07_model_output/test/iteration_2/model_outputs.json").read_text())
    scores = stored(whole_run, "04_feature/test/iteration_2/answer_scores").to_pandas()
    tokens = sum(len(record["response_ids"]) for record in outputs)
    assert measured["perplexity"] == pytest.approx(np.exp(-scores["log_prob"].sum() / tokens))
    assert measured["on_topic"] == (scores["log_prob"] > scores["other_log_prob"]).mean()
    assert measured["truncated"] == np.mean([len(record["response_ids"]) == 24 for record in outputs])
    seeding = json.loads((whole_run / "08_reporting/test/seeding/diagnostics.json").read_text())
    assert {"longer_chosen", "distinct_2"} <= seeding.keys()
    assert "ece" not in seeding  # a human's labels carry no probability


def test_the_report_of_a_run_has_every_policy(whole_run):
    page = (whole_run / "08_reporting/test/report.html").read_text(encoding="utf-8")
    (embedded,) = re.findall(r'<script type="application/json" id="report-data">(.*?)</script>', page, re.DOTALL)
    sections = json.loads(embedded)["sections"]
    assert [section["name"] for section in sections] == ["policy_0", "policy_1", "policy_2"]
    assert all(len(section["answers"]) == section["n_answers"] == 24 for section in sections)
    assert set(sections[2]["figures"]) == {"reliability", "margins", "lengths"}
    assert {example["kind"] for example in sections[2]["examples"]} >= {"best", "worst"}


def test_the_notebook_compares_the_runs(whole_run, monkeypatch):
    """Executed in a kernel of its own against the run's MLflow."""
    nbclient = pytest.importorskip("nbclient", reason="needs the extra `dev`")
    pytest.importorskip("ipykernel", reason="needs the extra `dev`")
    import nbformat

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{whole_run}/mlflow.db")
    notebook = nbformat.read(PROJECT / "notebooks/compare_runs.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells), "clear its outputs"
    resources = {"metadata": {"path": str(PROJECT / "notebooks")}}
    nbclient.NotebookClient(notebook, timeout=120, resources=resources).execute()
    table = cells[1].outputs[-1]["data"]["text/plain"]
    assert all(name in table for name in ("initial", "policy_0", "policy_1", "policy_2"))
    figures = [output["data"]["application/vnd.plotly.v1+json"] for output in cells[2].outputs]
    titles = [figure["layout"]["title"]["text"] for figure in figures]
    assert "Win rate over the initial model (%)" in titles
    assert "KL of the labeller from the initial model (nats)" in titles
    assert list(figures[0]["data"][0]["x"]) == ["initial", "policy_0", "policy_1", "policy_2"]


def test_kedro_viz_shows_layers_and_previews(whole_run, tmp_path):
    """What `make viz-build` writes, but to a folder of the test's."""
    import fsspec
    from kedro_viz.api.rest.responses.save_responses import save_api_responses_to_fs
    from kedro_viz.server import load_and_populate_data

    load_and_populate_data(PROJECT, env="test", include_hooks=True)
    save_api_responses_to_fs(str(tmp_path), fsspec.filesystem("file"), is_all_previews_enabled=True)
    graph = json.loads((tmp_path / "api/main").read_text())
    layers = [layer for layer in graph["layers"] if layer not in ("raw", "initial")]
    assert layers == ["labelling", "seeding", "iteration_1", "iteration_2", "reporting"]
    nodes = {node["name"]: node["id"] for node in graph["nodes"]}

    def preview(name):
        shown = json.loads((tmp_path / "api/nodes" / nodes[name]).read_text())
        return shown["preview_type"], shown["preview"]

    kind, table = preview("iteration_1.pairs")
    assert (kind, table["columns"]) == ("TablePreview", ["prompt", "chosen", "rejected", "margin"])
    assert len(table["data"]) == 20
    kind, manifest = preview("policy_1")
    assert kind == "JSONPreview"
    assert "model.safetensors" in json.loads(manifest)["manifest"]
    assert set(json.loads(manifest)["made_from"]) == {"version", "parameters", "inputs"}
    assert preview("iteration_1.margins_plot")[0] == "PlotlyPreview"
    assert "kl_from_initial" in json.loads(preview("iteration_2.diagnostics")[1])


def test_an_iteration_runs_alone_and_repeats_the_result(whole_run):
    """From what is persisted, with the same seed, it gives the same bytes again."""
    weights = whole_run / "06_models/test/policy_2/model.safetensors"
    labels = whole_run / "08_reporting/test/iteration_2/labels.json"
    before = weights.read_bytes(), labels.read_text()
    run("iteration_2", "reporting", fresh=True)
    assert (weights.read_bytes(), labels.read_text()) == before


@pytest.fixture(scope="module")
def replaying(whole_run):
    """One iteration of the method selfie, in the language of the whole run; yields the folder that it wrote to."""
    run("loop", method="selfie", iterations=1)
    return whole_run


def test_replayed_pairs_are_the_humans_and_trusted(replaying):
    """Each of the 16 once, numbered after the iteration's own, and never flagged."""
    pairs = stored(replaying, "05_model_input/test_selfie/iteration_1/pairs")
    seeds = stored(replaying, "05_model_input/test_selfie/seeding/pairs")
    assert len(seeds) == 16
    log = stored(replaying, "06_models/test_selfie/iteration_1_training_log")
    assert sorted(entry["pair"] for entry in log) == list(range(len(pairs) + 16))
    assert not any(entry["flagged"] for entry in log if entry["pair"] >= len(pairs))
    assert any(entry["flagged"] for entry in log)


def test_selfie_judges_per_token_within_the_initial_models_support(replaying):
    """Stored rewards are β·gain·L̄/|y|. Half of the samples are the initial model's; none outside its bounds is paired.

    Pairs weigh as their margins do.
    """
    responses = stored(replaying, "04_feature/test_selfie/iteration_1/scored_responses").to_list()
    assert [row["source"] for row in responses[:4]] == ["policy", "policy", "initial", "initial"]
    lengths = np.array([len(row["response_ids"]) for row in responses], dtype=float)
    gains = np.array([row["policy_log_prob"] - row["initial_log_prob"] for row in responses])
    rewards = 0.1 * gains * lengths.mean() / lengths
    expected = {tuple(r["prompt_ids"] + r["response_ids"]): value for r, value in zip(responses, rewards, strict=True)}
    own = np.array([row["source"] == "initial" for row in responses])
    likely = np.array([row["initial_log_prob"] for row in responses]) / lengths
    bounds = [np.percentile(values[own], [1, 99]) for values in (lengths, likely)]
    found = {tuple(r["prompt_ids"] + r["response_ids"]): n for n, r in enumerate(responses)}
    pairs = stored(replaying, "05_model_input/test_selfie/iteration_1/pairs")
    for pair in pairs:
        for side in ("chosen", "rejected"):
            response = tuple(pair["prompt_ids"] + pair[f"{side}_ids"])
            assert pair[f"{side}_reward"] == pytest.approx(expected[response])
            for values, (low, high) in zip((lengths, likely), bounds, strict=True):
                assert low <= values[found[response]] <= high
        assert pair["margin"] >= 0
    margins = np.array([pair["margin"] for pair in pairs])
    assert [pair["weight"] for pair in pairs] == pytest.approx(margins / margins.mean())


def test_a_shorter_run_has_the_prompts_of_a_longer_one(whole_run, replaying):
    """Its one iteration asks what the first of two asked."""
    path = "02_intermediate/{}/iteration_1/prompts"
    one, two = (stored(whole_run, path.format(name)).to_list() for name in ("test", "test_selfie"))
    assert one == two


def test_methods_share_language_model_and_seeds(whole_run, replaying):
    """So that they can be compared in pairs: the same policy 0, and the same answers of the initial model."""
    for path in ("06_models/{}/policy_0/model.safetensors", "07_model_output/{}/initial/model_outputs.json"):
        assert (whole_run / path.format("test")).read_bytes() == (whole_run / path.format("test_selfie")).read_bytes()
    summary = json.loads((replaying / "08_reporting/test_selfie/summary.json").read_text())
    assert summary["experiment"] == "test_selfie"
    assert [row["name"] for row in summary["iterations"]] == ["initial", "policy_0", "policy_1"]


def test_a_reward_model_is_trained_and_judges(whole_run):
    """The stored rewards are those that the stored reward model gives; the labels follow them."""
    from selfie.judges.reward_model import reward_model_scores
    from selfie.models.checkpoint import Checkpoint

    run("loop", method="reward_model", iterations=1)
    model = Checkpoint(str(whole_run / "06_models/test_reward_model/reward_model"))
    pairs = stored(whole_run, "05_model_input/test_reward_model/iteration_1/pairs")
    rewards = {}
    for side in ("chosen", "rejected"):
        prompts = [[{"role": "user", "content": pair["prompt"]}] for pair in pairs]
        texts = [pair[side] for pair in pairs]
        rewards[side] = reward_model_scores(model, prompts, texts, 16384).tolist()
        assert rewards[side] == pytest.approx([pair[f"{side}_reward"] for pair in pairs], abs=0.05)
    assert all(pair["margin"] >= 0 for pair in pairs)
    assert max(pair["margin"] for pair in pairs) > 0.1
    seeds = stored(whole_run, "05_model_input/test_reward_model/seeding/pairs")
    assert len(seeds) == 16


def test_a_missing_model_names_folder_and_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("SELFIE_DATA", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(ModelError, match=r"smollm2-135m-instruct.*does not exist"):
        run("seeding", env="base")
    assert not any(tmp_path.iterdir())


def test_seeds_are_made_in_a_fresh_clone(tmp_path, monkeypatch, empty_database):
    """`make seeds` where no model is there yet: the preparation of `globals.yml` makes it first."""
    write_to(tmp_path, monkeypatch, empty_database)
    run("seed_labelling")
    lines = (tmp_path / "01_raw/test/seed_0/labelled_seeds.jsonl").read_text().splitlines()
    pairs = [json.loads(line) for line in lines]
    assert 0 < len(pairs) <= 16
    assert all(gold_reward(p["prompt"], p["chosen"]) > gold_reward(p["prompt"], p["rejected"]) for p in pairs)
    with session("base") as opened:
        opened.load_context()
        assert pipelines["seed_labelling"].inputs() >= {"gguf_model", "seed_prompts"}
        assert "initial_model" not in pipelines["seed_labelling"].inputs()


@pytest.mark.parametrize("env", ["base", "synthetic", "paper", "test", "instructions"])
def test_every_dataset_of_every_pipeline_resolves_and_instantiates(env):
    with session(env) as opened:
        catalog = opened.load_context().catalog
        names = set().union(*(pipeline.datasets() for pipeline in dict(pipelines).values()))
        for name in names:
            dataset = catalog.get(name)
            assert dataset is not None, name
            assert "Memory" not in type(dataset).__name__ or name.startswith("params:"), f"{name} is not persisted"


def test_the_papers_setting_is_complete():
    with session("paper") as opened:
        parameters = opened.load_context().params
        assert "iteration_3" in pipelines
    training = parameters["training"]
    assert (training.label_smoothing, training.noise_percentile, training.extrapolation) == (
        0.1,
        10.0,
        [0.5, 0.25, 0.125],
    )
    assert parameters["prompts_per_iteration"] == [8000, 20000, 30000]


def test_the_number_of_iterations_can_be_set_from_outside(monkeypatch):
    monkeypatch.setenv("SELFIE_ITERATIONS", "5")
    bootstrap_project(PROJECT)
    assert "iteration_5" in pipelines
