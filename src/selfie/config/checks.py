"""Checks of ``conf/``: files that can be read as plain data, datasets that exist, paths that stay where they seem."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from kedro.config import MissingConfigException
from kedro.io import DatasetError
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from selfie.datasets import AnnotationCacheDataset, LockDataset, WorkspaceDataset
from selfie.errors import ConfigurationError
from selfie.storage.provenance import Artefact

KINDS = ("globals", "methods", "parameters", "catalog", "mlflow", "credentials")
WRITTEN = (Artefact, AnnotationCacheDataset, LockDataset, WorkspaceDataset)
LONGEST = 400  # characters of another library's message
UNREADABLE = (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError, ValueError, TypeError, AttributeError)


def read_configuration(loader: Any) -> dict[str, dict[str, Any]]:
    """All of ``conf/base`` and of the run's environment over it, by kind (``globals``, ``parameters`` …).

    Args:
        loader: Kedro's ``OmegaConfigLoader``.

    Raises:
        ConfigurationError: a file is not YAML, holds a tag that would make an object, or refers to what is not there.
    """
    configuration = {}
    for kind in KINDS:
        try:
            configuration[kind] = loader[kind]
        except MissingConfigException:
            configuration[kind] = {}
        except UNREADABLE as error:
            raise _located(loader, kind, error) from error
    return configuration


def _located(loader: Any, kind: str, error: Exception) -> ConfigurationError:
    """Kedro's message names no file, so each is read alone until one fails."""
    for environment in (loader.base_env, loader.env or loader.default_run_env):
        for file in sorted(Path(loader.conf_source, str(environment)).rglob("*.yml")):
            try:
                content = OmegaConf.load(file)
            except yaml.MarkedYAMLError as found:
                line = found.problem_mark.line + 1 if found.problem_mark else "?"
                problem = f"it can't be read ({found.problem})"
                return ConfigurationError(f"{file}, line {line}", problem, "write plain YAML")
            except (yaml.YAMLError, UnicodeDecodeError) as found:
                return ConfigurationError(str(file), f"it can't be read ({found})", "write plain YAML in UTF-8")
            if not OmegaConf.is_dict(content):
                return ConfigurationError(str(file), "it is not a mapping", "write `name: value` lines")
    first = str(error).split("\n", 1)[0]
    return ConfigurationError(f"{loader.conf_source}, {kind}", first, "mend what it names")


def check_datasets(names: Iterable[str], catalog: Any) -> None:
    """Raises ConfigurationError where a dataset's entry in the catalog makes no dataset."""
    for name in sorted(names):
        try:
            catalog.get(name)
        except (DatasetError, TypeError) as error:
            kind = catalog.config_resolver.resolve_pattern(name).get("type")
            problem = f"{kind} can't be made of this entry: {' '.join(str(error).split()):.{LONGEST}}"
            raise ConfigurationError(
                f"catalog, {name}", problem, "see src/selfie/datasets for what it takes"
            ) from error


def check_data_folder(data: str) -> None:
    """Raises ConfigurationError where ``data`` of globals.yml is no local folder."""
    _check_local("globals.yml, data (SELFIE_DATA)", data)


def check_written(names: Iterable[str], catalog: Any) -> None:
    """Raises ConfigurationError where a dataset that the project writes is not on a local disk.

    What the user brings may be remote. A commit is a rename on a local file system: an address would be taken for the
    name of a folder.
    """
    for name in sorted(names):
        dataset = catalog.get(name)
        if isinstance(dataset, WRITTEN):
            path = str(catalog.config_resolver.resolve_pattern(name).get("filepath", ""))
            _check_local(f"catalog, {name}", path)


def _check_local(where: str, path: str) -> None:
    if "://" in path:
        problem = f"{path} is not a folder of this machine, where runs write and commit"
        raise ConfigurationError(where, problem, "name a local folder; copy from or to the remote one outside of runs")


def check_paths(names: Iterable[str], catalog: Any, folders: Iterable[Path]) -> None:
    """What lies in a data folder by its path must lie there in truth: a link could lead a run's writes anywhere.

    Args:
        names: of the run's datasets.
        catalog: Kedro's.
        folders: the data folders.

    Raises:
        ConfigurationError: a path leads out of the data folder by way of a symbolic link or ``..``.
    """
    for name in sorted(names):
        entry = catalog.config_resolver.resolve_pattern(name)
        path = str(entry.get("filepath", "")) if isinstance(entry, dict) else ""
        if not path or "://" in path:
            continue
        for folder in {folder.absolute() for folder in folders}:
            inside = Path(path).absolute().is_relative_to(folder)
            if inside and not Path(path).resolve().is_relative_to(folder.resolve()):
                raise ConfigurationError(
                    f"catalog, {name}",
                    f"{path} leads out of {folder}, to {Path(path).resolve()}",
                    "name the real path in the catalog, or set SELFIE_DATA to where the data is to be",
                )
