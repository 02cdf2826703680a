"""Checks of the catalog: datasets that exist, outputs on a local disk, paths that stay where they seem."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kedro.io import DatasetError

from selfie.datasets import HandleDataset
from selfie.errors import ConfigurationError
from selfie.storage.provenance import Artefact
from selfie.storage.remote import is_address

WRITTEN = (Artefact, HandleDataset)
LONGEST = 400  # characters of another library's message


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
    """Raises ConfigurationError where ``data`` of globals.yml is no local folder: a bucket stands in SELFIE_DATA."""
    if is_address(data):
        problem = f"{data} is not a folder of this machine, where runs write and commit"
        remedy = "name a local folder; for data in a bucket set the environment variable SELFIE_DATA to its address"
        raise ConfigurationError("globals.yml, data", problem, remedy)


def check_written(names: Iterable[str], catalog: Any) -> None:
    """Raises ConfigurationError where a dataset that the project writes is not on a local disk.

    What the user brings may be remote. A commit is a rename on a local file system: an address would be taken for the
    name of a folder.
    """
    for name in sorted(names):
        dataset = catalog.get(name)
        path = str(catalog.config_resolver.resolve_pattern(name).get("filepath", ""))
        if isinstance(dataset, WRITTEN) and is_address(path):
            problem = f"{path} is not a folder of this machine, where runs write and commit"
            remedy = "name a local folder, below ${globals:data} where SELFIE_DATA is a bucket"
            raise ConfigurationError(f"catalog, {name}", problem, remedy)


def check_paths(names: Iterable[str], catalog: Any, folders: Iterable[Path]) -> None:
    """What lies in a data folder by its path must really lie there: a link could lead a run's writes anywhere.

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
