"""Reads ``conf/`` as plain data, and says which file can't be read."""

from pathlib import Path
from typing import Any

import yaml
from kedro.config import MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from selfie.errors import ConfigurationError

KINDS = ("globals", "methods", "parameters", "catalog", "mlflow", "credentials")
UNREADABLE = (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError, ValueError, TypeError, AttributeError)


def read_configuration(loader: Any) -> dict[str, dict[str, Any]]:
    """All of ``conf/base`` and of the run's environment over it, by kind (``globals``, ``parameters`` …).

    Args:
        loader: a ``MethodConfigLoader``.

    Raises:
        ConfigurationError: the environment is not there; a file is not YAML, holds a tag that would make an object, or
            refers to what is not there.
    """
    name = str(loader.env or loader.default_run_env)
    folders = {folder for source in loader.sources if source.is_dir() for folder in source.iterdir() if folder.is_dir()}
    there = sorted({folder.name for folder in folders})
    if name not in there:
        remedy = f"make the folder, or choose one of {', '.join(there)}"
        raise ConfigurationError(f"environment {name}", f"there is no folder {Path(loader.conf_source, name)}", remedy)
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
