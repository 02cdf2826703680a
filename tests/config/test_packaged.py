"""A project's ``conf/`` that says only what differs, over the package's own."""

import shutil
from pathlib import Path

import pytest

from configuration import configured
from runs import PROJECT
from selfie.config import packaged
from selfie.config.packaged import PACKAGED, PackagedConfigLoader
from selfie.config.reading import KINDS, read_configuration
from selfie.errors import ConfigurationError
from selfie.settings import CONFIG_LOADER_ARGS

ENVIRONMENTS = sorted(folder.name for folder in (PROJECT / "conf").iterdir() if folder.is_dir())


def loader(conf: Path, env: str | None = None, **runtime) -> PackagedConfigLoader:
    """Of a project with these files."""
    return PackagedConfigLoader(str(conf), env=env, runtime_params=runtime, **CONFIG_LOADER_ARGS)


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A project's, with one change of each kind in base and in ``local``."""
    files = {
        "base/globals.yml": "experiment: mine\nmodel: models/mine\n",
        "base/parameters.yml": "generation: {temperature: 1.25}\nprompts_per_iteration: [7]\n",
        "base/methods.yml": "mine: {beta: 0.3}\n",
        "base/catalog.yml": "seed_prompts:\n  type: selfie.datasets.PromptDataset\n  hub: a/b\n  revision: c\n"
        'mine: {type: json.JSONDataset, filepath: "data/${_experiment}/mine.json"}\n',
        "local/parameters.yml": "generation: {top_p: 0.5}\n",
        "local/credentials.yml": "judge: {api_key: mine}\n",
    }
    for name, text in files.items():
        (tmp_path / "conf" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / name).write_text(text)
    return tmp_path / "conf"


def test_the_package_has_every_environment_but_the_users():
    """Not a byte differs; ``local`` may hold secrets and settings of one machine."""
    assert sorted(folder.name for folder in PACKAGED.iterdir()) == [env for env in ENVIRONMENTS if env != "local"]
    for file in (file for env in PACKAGED.iterdir() for file in env.rglob("*.y*ml")):
        assert file.read_bytes() == (PROJECT / "conf" / file.relative_to(PACKAGED)).read_bytes()


@pytest.mark.parametrize("env", [env for env in ENVIRONMENTS if env != "local"])
def test_a_project_that_changes_nothing_is_the_packages(env: str, tmp_path: Path):
    own = loader(tmp_path / "conf", env, method="spa")
    assert read_configuration(own) == read_configuration(configured(env, method="spa"))


def test_parameters_are_laid_over_each_other_one_by_one(conf: Path):
    expected = configured("base")["parameters"]
    generation = {**expected["generation"], "temperature": 1.25, "top_p": 0.5}
    changed = {"generation": generation, "prompts_per_iteration": [7], "experiment": "mine"}
    assert loader(conf)["parameters"] == {**expected, **changed}


def test_an_entry_takes_the_place_of_the_packages(conf: Path):
    """An entry with ``hub`` keeps nothing of one with ``filepath``; all others take the project's globals."""
    catalog = loader(conf)["catalog"]
    assert catalog["seed_prompts"] == {"type": "selfie.datasets.PromptDataset", "hub": "a/b", "revision": "c"}
    assert catalog["initial_model"]["filepath"] == "models/mine"
    assert catalog["summary"]["filepath"] == "data/08_reporting/mine/summary.json"
    assert catalog["mine"]["filepath"] == "data/mine/mine.json"
    assert catalog.keys() == configured("base")["catalog"].keys() | {"mine"}
    assert loader(conf)["globals"]["iterations"] == 2


def test_the_packages_environments_lie_over_the_projects_base(conf: Path):
    assert loader(conf, "test")["parameters"]["generation"]["temperature"] == 0.7
    (conf / "test").mkdir()
    (conf / "test/parameters.yml").write_text("generation: {temperature: 0.9}\n")
    parameters = loader(conf, "test")["parameters"]
    assert (parameters["generation"]["temperature"], parameters["generation"]["max_new_tokens"]) == (0.9, 24)


def test_methods_and_secrets_are_the_projects_and_the_packages(conf: Path):
    assert loader(conf, method="mine")["parameters"]["beta"] == 0.3
    assert loader(conf, method="spa").runtime_params == {
        **configured(method="spa").runtime_params,
        "experiment": "mine_spa",
    }
    assert loader(conf)["credentials"]["judge"] == {"api_key": "mine"}


def test_a_package_below_a_hidden_folder(conf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Kedro takes no notice of hidden files in a configuration."""
    installed = tmp_path / ".venv/lib/selfie/conf"
    shutil.copytree(PACKAGED, installed)
    monkeypatch.setattr(packaged, "PACKAGED", installed)
    assert read_configuration(loader(conf)).keys() == set(KINDS)
    assert loader(conf)["parameters"]["beta"] == 0.1


def test_an_unknown_environment_lists_both(conf: Path):
    with pytest.raises(
        ConfigurationError,
        match=r"environment no: there is no .*\n.*alpaca, base, instructions, language, local, multi_gpu, paper",
    ):
        read_configuration(loader(conf, "no"))
    (conf / "mine").mkdir()
    assert read_configuration(loader(conf, "mine"))["globals"]["experiment"] == "mine"
