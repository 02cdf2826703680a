"""Kedro's configuration, with methods: named sets of parameters to compare, kept in ``methods.yml``."""

import difflib
from pathlib import Path
from typing import Any

from kedro.config import MissingConfigException, OmegaConfigLoader
from omegaconf import OmegaConf

from selfie.errors import ConfigurationError


class MethodConfigLoader(OmegaConfigLoader):
    """Lays a method's parameters over those of the files: ``kedro run --params method=spa_sr``.

    What ``--params`` says besides wins over the method. A method's runs get an experiment of their own,
    EXPERIMENT_METHOD, wherever EXPERIMENT comes from: methods never overwrite each other's results. ``runtime_params``
    then hold the method's parameters and that name: whoever needs the run's parameters asks there, not the session.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        given = self.runtime_params or {}
        name = given.get("method")
        if name is not None:
            experiment = given.get("experiment") or self["globals"]["experiment"]
            named = {"experiment": f"{experiment}_{name}"}
            merged: Any = OmegaConf.to_container(OmegaConf.merge(self._method(str(name)), given, named))
            self.runtime_params = merged

    @property
    def sources(self) -> tuple[Path, ...]:
        """The folders whose environments are read, each over the one before."""
        return (Path(self.conf_source),)

    def _method(self, name: str) -> dict[str, Any]:
        try:
            methods = self["methods"]
        except MissingConfigException:
            methods = {}
        if name not in methods:
            close = difflib.get_close_matches(name, methods, n=1)
            raise ConfigurationError(
                f"parameter method, {name!r}",
                "methods.yml has no such method",
                f"did you mean {close[0]}?" if close else f"choose one of {', '.join(methods) or 'none'}",
            )
        return methods[name]
