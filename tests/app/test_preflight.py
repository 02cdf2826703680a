"""What is checked before a run: every parameter, and whether the data suffice."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from kedro.io import AbstractDataset, DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from configuration import configured
from runs import PROJECT
from selfie.app.preflight import check_inputs, check_parameters
from selfie.config.gold import CheckParameters
from selfie.config.parameters import Parameters
from selfie.config.pipeline_options import choose_options
from selfie.config.reading import read_configuration
from selfie.datasets import CheckpointDataset, PromptDataset
from selfie.errors import ConfigurationError, DataError, ModelError
from selfie.generation.engine_choice import choose_engine
from selfie.models.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def base() -> dict[str, Any]:
    return configured()["parameters"]


@pytest.mark.parametrize("environment", [file.parent.name for file in PROJECT.glob("conf/*/parameters.yml")])
def test_the_shipped_parameters_are_in_range(environment: str):
    parameters = check_parameters(configured(environment)["parameters"], {})
    assert len(parameters.prompts_per_iteration) >= 2


def test_params_of_the_command_line_are_laid_over(base: dict[str, Any]):
    """Nested ones change what they name and leave their neighbours; lists are replaced as a whole."""
    runtime = {"seed": 7, "training": {"label_smoothing": 0.25, "extrapolation": [0.0]}, "prompts_per_iteration": [5]}
    parameters = check_parameters(base, runtime)
    assert parameters.seed == 7
    assert (parameters.training.label_smoothing, parameters.training.extrapolation) == (0.25, [0.0])
    assert parameters.training.learning_rate == base["training"]["learning_rate"]
    assert parameters.seeding.label_smoothing == base["seeding"]["label_smoothing"]
    assert parameters.prompts_per_iteration == [5]
    assert base == configured()["parameters"]  # laid over, not written into


OPTIMIZER = {
    "learning_rate": 1e-4,
    "epochs": 1,
    "learning_rate_warmup": 0.1,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
}
# Beside those of tests/bad_inputs.py and test_plug_ins.py.
WRONG = {
    "misspelt inside": (
        {"training": {"label_smothing": 0.1}},
        ["training.label_smothing", "did you mean label_smoothing?"],
    ),
    "misspelt group": ({"trainig": {"label_smoothing": 0.1}}, ["parameter trainig", "did you mean training?"]),
    "misspelt in an optional group": (
        {"synthetic": {"corpus": 9, "seed_pair": 9, "prompts": 9, "evaluation_prompts": 9}},
        ["synthetic.seed_pair", "did you mean seed_pairs?"],
    ),
    "like nothing known": ({"zzzzzz": 1}, ["parameter zzzzzz", "no such parameter", "remove it"]),
    "renamed": ({"training": {"trust_warmup": 0.2}}, ["training.trust_warmup", "renamed to training.detector_warmup"]),
    "renamed in both trainings": (
        {"training": {"alpha": 0.1}, "seeding": {"alpha": 0.0}},
        ["training.alpha", "renamed to training.label_smoothing", "renamed to seeding.label_smoothing"],
    ),
    "renamed group": ({"world": {"corpus": 9}}, ["parameter world", "renamed to synthetic"]),
    "renamed judge": ({"judging": {"judge": "logit"}}, ["judging.judge", "renamed to implicit_reward"]),
    "renamed annotator": ({"evaluation": {"annotator": "llm"}}, ["evaluation.annotator", "renamed to openai_api"]),
    "number for text": ({"experiment": 3}, ["parameter experiment", "(it is 3)"]),
    "fraction for a count": ({"training": {"epochs": 1.5}}, ["training.epochs", "(it is 1.5)"]),
    "number for a list": ({"training": {"extrapolation": 0.5}}, ["training.extrapolation", "list"]),
    "text for a group": ({"training": "fast"}, ["parameter training", "(it is 'fast')"]),
    "smoothing of 1/2 and more": (
        {"training": {"label_smoothing": 1.1}},
        ["training.label_smoothing", "less than 0.5", "it is 1.1"],
    ),
    "percentile of 100": ({"training": {"noise_percentile": 100.0}}, ["training.noise_percentile", "less than 100"]),
    "negative lambda": ({"training": {"extrapolation": [0.5, -0.1]}}, ["training.extrapolation.1", "it is -0.1"]),
    "no lambda": ({"training": {"extrapolation": []}}, ["training.extrapolation"]),
    "uneven micro-batches": (
        {"reward_model": {**OPTIMIZER, "batch_size": 16, "micro_batch_size": 5}},
        ["reward_model", "micro_batch_size"],
    ),
    "one sample": ({"generation": {"samples_per_prompt": 1}}, ["generation.samples_per_prompt", "it is 1"]),
    "top-p of 0": ({"generation": {"top_p": 0.0}}, ["generation.top_p", "greater than 0"]),
    "temperature of 0": ({"generation": {"temperature": 0.0}}, ["generation.temperature", "greater than 0"]),
    "beta of 0": ({"beta": 0.0}, ["parameter beta", "greater than 0"]),
    "not a number": ({"training": {"learning_rate": float("nan")}}, ["training.learning_rate"]),
    "negative seed": ({"seed": -1}, ["parameter seed", "it is -1"]),
    "an empty iteration": ({"prompts_per_iteration": [8, 0]}, ["prompts_per_iteration.1", "it is 0"]),
    "gold that is no group": (
        {"gold": "world"},
        ["parameter gold:", "renamed to gold.annotator", "set gold: {annotator: synthetic}"],
    ),
    "renamed gold, in its group": (
        {"gold": {"annotator": "world"}},
        ["gold.annotator", "world was renamed to synthetic"],
    ),
    "renamed gold": ({"gold": "plain_language"}, ["set gold: {annotator: style_guide}"]),
    "unknown check": (
        {"gold": {"checks": {"on_topics": {"least_words": 1}}}},
        ["gold.checks.on_topics", "no such parameter", "did you mean on_topic?"],
    ),
    "unknown bound": (
        {"gold": {"checks": {"word_count": {"mots": 60}}}},
        ["gold.checks.word_count.mots", "did you mean most?"],
    ),
    "bounds that exclude each other": (
        {"gold": {"checks": {"word_count": {"least": 80}}}},
        ["gold.checks.word_count", "least (80) is above most (50)"],
    ),
    "a phrase without a word": (
        {"gold": {"checks": {"no_filler": {"openings": ["sure", "!"]}}}},
        ["gold.checks.no_filler.openings.1", "(it is '!')"],
    ),
    "a style guide without a check": (
        {"gold": {"checks": dict.fromkeys(CheckParameters.model_fields)}},
        ["parameter gold.checks", "has no check"],
    ),
    "endpoint without a model": (
        {"evaluation": {"annotator": "openai_api"}},
        ["annotation.endpoint.model names no model"],
    ),
    "judge without a model": (
        {"evaluation": {"annotator": "prompted_model"}},
        ["annotation.judge_model names no model"],
    ),
    "endpoint with a key": (
        {"annotation": {"endpoint": {"base_url": "https://key@host/v1"}}},
        ["annotation.endpoint.base_url"],
    ),
    "more failures than questions": ({"annotation": {"max_failures": 5.0}}, ["annotation.max_failures"]),
    "prompt without a field": (
        {"judge_prompts": {"pairwise": {"user": "{answer_1} or {answer_2}?"}}},
        ["fence, instruction is not used"],
    ),
    "prompt with an unknown field": ({"judge_prompts": {"grading": {"system": "{answer}"}}}, ["no such field: answer"]),
    "gold judge without gold": ({"gold": None, "judging": {"judge": "gold"}}, ["judg", "gold"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_parameter_is_named(base: dict[str, Any], case: str):
    """With its full name, what it is, and what it may be or was meant to be."""
    runtime, words = WRONG[case]
    with pytest.raises(ConfigurationError) as caught:
        check_parameters(base, runtime)
    for word in words:
        assert word in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["beta", "training"])
def test_a_missing_parameter_is_named(base: dict[str, Any], name: str):
    with pytest.raises(ConfigurationError, match=rf"parameter {name}: it is missing\n.*set it in conf/"):
        check_parameters({key: value for key, value in base.items() if key != name}, {})


def test_a_style_guide_of_the_users_own(base: dict[str, Any]):
    """A check is left out, a bound moved, and the neighbours stay."""
    changes = {"gold": {"checks": {"no_filler": None, "word_count": {"most": 30}}}}
    gold = check_parameters(base, changes).gold
    assert gold is not None
    assert gold.checks is not None
    assert gold.checks.no_filler is None
    assert gold.checks.word_count.model_dump() == {"least": 8, "most": 30}
    assert gold.checks.on_topic.model_dump() == base["gold"]["checks"]["on_topic"]


def test_all_wrong_parameters_are_named_at_once(base: dict[str, Any]):
    with pytest.raises(ConfigurationError) as caught:
        check_parameters(base, {"beta": -1.0, "training": {"label_smoothing": 2.0, "lambda": 0.5}})
    assert all(name in caught.value.where for name in ("beta", "training.label_smoothing", "training.lambda"))


def test_an_old_preparation_is_named_anew(base: dict[str, Any]):
    with pytest.raises(ConfigurationError, match=r"globals\.yml, preparation: world was renamed to synthetic"):
        choose_options({"preparation": "world"}, check_parameters(base, {}))


def test_an_environment_that_is_not_there_is_named():
    with pytest.raises(
        ConfigurationError, match=r"(?s)environment world: .*choose one of .*paper, ray, single_gpu, synthetic, test"
    ):
        read_configuration(configured("world"))


@pytest.fixture
def parameters(base: dict[str, Any]) -> Parameters:
    changes = {"max_length": 128, "prompts_per_iteration": [6, 4], "generation": {"engine": "transformers"}}
    return check_parameters(base, changes)


PIPELINE = Pipeline([Node(lambda prompts, model: None, ["prompts", "initial_model"], "out", name="read")])
PROMPTS = Dataset.from_list(
    [{"prompt_id": f"{n}", "messages": [{"role": "user", "content": f"{n}"}]} for n in range(9)]
)


def catalog(prompts: Any, model: Any) -> DataCatalog:
    return DataCatalog({"prompts": prompts, "initial_model": model})


@pytest.mark.parametrize(
    ("iterations", "error", "words"),
    [
        (2, DataError, "2 iterations need 10 prompts, there are 9"),
        (3, ConfigurationError, "it plans 2 iterations, the run has 3"),
    ],
)
def test_too_few_prompts_are_counted(parameters, tiny_checkpoint: Checkpoint, iterations: int, error, words: str):
    with pytest.raises(error, match=words):
        check_inputs(PIPELINE, catalog(MemoryDataset(PROMPTS), MemoryDataset(tiny_checkpoint)), parameters, iterations)


def test_enough_prompts_pass(parameters, tiny_checkpoint: Checkpoint):
    """One iteration needs six of the nine."""
    check_inputs(PIPELINE, catalog(MemoryDataset(PROMPTS), MemoryDataset(tiny_checkpoint)), parameters, 1)


def test_the_prompts_with_instructions_pass(monkeypatch: pytest.MonkeyPatch):
    """As `--env instructions` names them: enough for its iterations, and none is set aside for what it shares."""
    monkeypatch.chdir(PROJECT)
    loader = configured("instructions")
    named = ("seed_prompts", "seed_preferences", "prompts", "evaluation_prompts")
    entries = {name: loader["catalog"][name] for name in named}
    assert all("/instructions/" in entry["filepath"] for entry in entries.values())
    read = DataCatalog({name: AbstractDataset.from_config(name, entry) for name, entry in entries.items()})
    read["quarantine"] = MemoryDataset([])
    reads = Pipeline([Node(lambda *_: None, list(named), "out", name="read")])
    check_inputs(reads, read, check_parameters(loader["parameters"], {}), iterations=2)
    assert read.load("quarantine") == []


def test_errors_of_data_and_model_come_unwrapped(parameters, tiny_checkpoint: Checkpoint, tmp_path: Path):
    """Kedro wraps what a dataset raises; the user wants where, what and what to do."""
    missing = str(tmp_path / "nowhere")
    prompts, model = MemoryDataset(PROMPTS), CheckpointDataset(missing)
    with pytest.raises(ModelError, match="this model folder does not exist"):
        check_inputs(PIPELINE, catalog(prompts, model), parameters, 1)
    prompts, model = PromptDataset(f"{missing}.jsonl"), MemoryDataset(tiny_checkpoint)
    with pytest.raises(DataError, match=r"nowhere\.jsonl: the file does not exist"):
        check_inputs(PIPELINE, catalog(prompts, model), parameters, 1)


def test_a_judge_that_can_not_be_read_is_refused_before_anything_runs(base: dict[str, Any], tmp_path: Path):
    parameters = check_parameters(
        base, {"annotation": {"judge_model": str(tmp_path / "judge")}, "evaluation": {"annotator": "prompted_model"}}
    )
    reads = Pipeline([Node(len, "params:annotation", "annotations")])
    with pytest.raises(ModelError, match=r"judge.*this model folder does not exist"):
        check_inputs(reads, DataCatalog({}), parameters, iterations=1)
    check_inputs(Pipeline([Node(len, "params:judging", "pairs")]), DataCatalog({}), parameters, iterations=1)


def test_an_engine_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch):
    """As if vLLM were missing: asked for by name it is an error, ``auto`` does without."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="vLLM is not installed"):
        choose_engine("vllm")
    assert choose_engine("auto") == "transformers"
