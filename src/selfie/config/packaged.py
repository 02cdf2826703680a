"""The configuration of a project that uses the package: its own ``conf/``, laid over the package's."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kedro.config import MissingConfigException, OmegaConfigLoader
from omegaconf import DictConfig

from selfie.config.methods import MethodConfigLoader

PACKAGED = Path(__file__).parents[1] / "conf"
"""In the repository links to the folders of ``conf/``; an installed package has the files."""


class PackagedConfigLoader(MethodConfigLoader):
    """Lays every folder of the project's ``conf/`` over the package's of the same name, if it has one.

    A project says only what differs, and takes over what a newer package says of the rest. Parameters are laid over
    each other one by one; of the catalog and all else, an entry takes the place of the package's of that name.
    """

    def __init__(self, conf_source: str | Path, *args: Any, **kwargs: Any):
        resolvers = kwargs.get("custom_resolvers")
        # First, since the loader that is made last is the one that resolves ${globals:…}. A package may well be
        # installed below a hidden folder, such as .venv.
        self.packaged = OmegaConfigLoader(PACKAGED, base_env="base", custom_resolvers=resolvers, ignore_hidden=False)
        super().__init__(conf_source, *args, **kwargs)

    @property
    def sources(self) -> tuple[Path, ...]:
        """The package's ``conf/`` and the project's, which lies above it."""
        return PACKAGED, Path(self.conf_source)

    def _read_dir_configs(
        self, conf_path: str, patterns: Iterable[str], key: str, *args: Any
    ) -> dict[Path, DictConfig]:
        folder = PACKAGED / Path(conf_path).name
        below = self.packaged._read_dir_configs(str(folder), patterns, key, *args) if folder.is_dir() else {}
        try:
            above = super()._read_dir_configs(conf_path, patterns, key, *args)
        except MissingConfigException:  # the project has no folder of this name
            if not folder.is_dir():
                raise
            return below
        if self.merge_strategy.get(key) != "soft":
            for file in below.values():
                for name in file.keys() & {name for own in above.values() for name in own}:
                    del file[name]
        return {**below, **above}
