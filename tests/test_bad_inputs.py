"""Bad and hostile inputs: a clear error, exit code 2, and not one file changed.

Each is put before the checks that precede a run, some before whole runs. At night all are put before whole runs;
``make bad-inputs`` does so too and writes what the errors say into ``docs/bad_inputs.md``.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner
from kedro.framework.context import KedroContext
from kedro.framework.hooks.specs import DataCatalogSpecs
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from pluggy import PluginManager

from bad_inputs import BAD, CONFIGURATION, DATA, MODEL
from selfie.app.catalog_checks import check_paths
from selfie.app.hooks import PreflightHooks
from selfie.app.preflight import check_inputs, check_parameters
from selfie.cli import run as command
from selfie.config.pipeline_options import choose_options, current_options
from selfie.config.reading import read_configuration
from selfie.errors import UserError
from selfie.settings import CONFIG_LOADER_ARGS, CONFIG_LOADER_CLASS
from user_place import Place

PROJECT = Path(__file__).parents[1]
DOCUMENT = PROJECT / "docs/bad_inputs.md"


@pytest.fixture
def place(own_copy: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A copy to spoil."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{own_copy}/mlflow.db")
    monkeypatch.chdir(own_copy)  # where a careless write would land
    return Place(own_copy)


def contents(folder: Path) -> dict[str, str]:
    """Every file, folder and link below the folder: what it holds, or where it leads."""
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="module", autouse=True)
def project() -> None:
    """Once: Kedro imports the pipelines anew each time."""
    bootstrap_project(PROJECT)


def loader(conf: Path, parameters: Mapping[str, Any]) -> Any:
    return CONFIG_LOADER_CLASS(str(conf), env="mine", runtime_params=dict(parameters), **CONFIG_LOADER_ARGS)


def run(place: Place, parameters: Mapping[str, Any]) -> None:
    """A whole run."""
    with KedroSession.create(
        PROJECT, env="mine", conf_source=str(place.folder / "conf"), runtime_params=dict(parameters)
    ) as session:
        session.run(pipeline_names=["__default__"])


def check_all(place: Place, parameters: Mapping[str, Any]) -> None:
    """What is checked before a run's first node, the configuration's files included."""
    plugins = PluginManager("kedro")
    plugins.add_hookspecs(DataCatalogSpecs)
    context = KedroContext(PROJECT, loader(place.folder / "conf", parameters), "mine", "selfie", plugins)
    hooks = PreflightHooks()
    hooks.after_context_created(context)
    hooks.before_pipeline_run(pipelines["__default__"], context.catalog)


class Good(NamedTuple):
    """The good project's configuration, which takes a second to read, and its pipeline."""

    folder: Path
    configuration: dict[str, dict[str, Any]]
    pipeline: Pipeline
    iterations: int

    def check(self, place: Place, parameters: Mapping[str, Any]) -> None:
        """What is checked of parameters, paths, data and model where the configuration's files are as they were."""
        checked = check_parameters(self.configuration["parameters"], parameters)
        entries = json.dumps(self.configuration["catalog"]).replace(str(self.folder), str(place.folder))
        catalog = DataCatalog.from_config(json.loads(entries), self.configuration["credentials"])
        check_paths(self.pipeline.datasets(), catalog, {place.folder / "data"})
        check_inputs(self.pipeline, catalog, checked, self.iterations)


@pytest.fixture(scope="module")
def good(own_project: Path, project: None) -> Good:
    """Read once."""
    configuration = read_configuration(loader(own_project / "conf", {}))
    choose_options(configuration["globals"], check_parameters(configuration["parameters"], {}))
    return Good(own_project, configuration, pipelines["__default__"], current_options().iterations)


@pytest.fixture(scope="module")
def said(request: pytest.FixtureRequest):
    """Collects what every case's error said; ``--write`` makes the document of it."""
    messages: dict[str, str] = {}
    yield messages
    if request.config.getoption("--write"):
        assert messages.keys() == BAD.keys(), "run the whole table to write the document"
        DOCUMENT.write_text(document(messages))


def document(messages: dict[str, str]) -> str:
    """The table as a page."""
    lines = [
        "# Bad inputs",
        "",
        f"{len(BAD)} bad or hostile inputs, each put before a whole run: what the run said. It ended with exit code 2 "
        "each time, before any node ran, and no file had changed. Written by `make bad-inputs` from "
        "[`tests/bad_inputs.py`](../tests/bad_inputs.py).",
        "",
        "Names of control tokens in a text (`<|im_end|>`) are no error: they stay text "
        "([`chat_template.py`](../src/selfie/models/chat_template.py)).",
    ]
    for title, cases in (("Data", DATA), ("Configuration", CONFIGURATION), ("Model", MODEL)):
        lines += ["", f"## {title}", "", "| input | what the run says |", "|---|---|"]
        for name in cases:
            cell = messages[name].replace("|", "\\|").replace("<", "&lt;").replace("][", "]\\[").replace("\n", "<br>")
            lines.append(f"| {name} | {cell} |")
    return "\n".join(lines) + "\n"


def refused(place: Place, case: str, check: Callable[[Place, Mapping[str, Any]], None]) -> str:
    """What ``check`` says of the bad input that lies there, once it has said all that it must and written nothing."""
    before = contents(place.folder)
    with pytest.raises(UserError) as caught:
        check(place, BAD[case].parameters)
    message = str(caught.value)
    for word in BAD[case].words:
        assert word in message
    assert caught.value.exit_code == 2
    assert caught.value.remedy
    assert len(message) < 2000
    assert contents(place.folder) == before
    return message


def spoil(place: Place, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in BAD[case].environment.items():
        monkeypatch.setenv(name, value)
    BAD[case].make(place)


@pytest.mark.parametrize("case", BAD)
def test_a_bad_input_is_named_and_nothing_is_written(place: Place, good: Good, case: str, monkeypatch):
    """By the checks alone; the configuration is read again where the case changes it."""
    files = contents(place.folder / "conf")
    spoil(place, case, monkeypatch)
    same = contents(place.folder / "conf") == files and not BAD[case].environment
    refused(place, case, good.check if same else check_all)


@pytest.mark.parametrize(
    "case",
    [
        "a seed that repeats an evaluation prompt",
        "broken YAML",
        "a link out of the data folder",
        "a bucket for the lock",
        "iterations in words",
        "a pickle beside the weights",
    ],
)
def test_a_whole_run_stops(place: Place, case: str, monkeypatch):
    """One of each kind: rows, files of the configuration, paths, outputs, the environment, the model."""
    spoil(place, case, monkeypatch)
    refused(place, case, run)


@pytest.mark.parametrize("case", BAD)
def test_every_bad_input_stops_a_whole_run(place: Place, case: str, said, monkeypatch):
    spoil(place, case, monkeypatch)
    said[case] = refused(place, case, run).replace(str(place.folder), "PROJECT")


def test_there_are_enough_cases_and_the_document_has_them_all():
    assert len(BAD) >= 40
    text = DOCUMENT.read_text()
    assert all(f"\n| {name} | " in text for name in BAD)
    assert f"\n{len(BAD)} bad or hostile inputs" in text


def test_the_command_line_says_it(place: Place, monkeypatch: pytest.MonkeyPatch):
    """``kedro run`` with its options: exit code 2, the message, nothing written.

    As a process of its own, with an error in the data: ``test_exposure.py``.
    """
    monkeypatch.chdir(PROJECT)
    before = contents(place.folder)
    options = ["--env", "mine", "--conf-source", str(place.folder / "conf"), "--params", "betta=0.1"]
    done = CliRunner().invoke(command, options)
    assert done.exit_code == 2
    assert all(word in " ".join(done.output.split()) for word in BAD["a misspelt parameter"].words)
    assert contents(place.folder) == before


def test_good_inputs_pass(place: Place, good: Good, caplog: pytest.LogCaptureFixture):
    """The table's project itself is fine: every check lets it through, and no row is set aside."""
    good.check(place, {})
    check_all(place, {})
    assert "not used" not in caplog.text
    assert not (place.folder / "data/02_intermediate").exists()
