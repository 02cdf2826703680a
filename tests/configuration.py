"""``conf/`` as a run reads it."""

from typing import Any

from runs import PROJECT
from selfie.app.preflight import check_parameters
from selfie.config.methods import MethodConfigLoader
from selfie.config.parameters import Parameters
from selfie.settings import CONFIG_LOADER_ARGS


def configured(env: str = "base", **runtime: Any) -> MethodConfigLoader:
    """As ``kedro run --env ENV --params RUNTIME`` reads it."""
    return MethodConfigLoader(str(PROJECT / "conf"), env=env, runtime_params=runtime, **CONFIG_LOADER_ARGS)


def parameters(env: str = "base", **runtime: Any) -> Parameters:
    """As the hooks check them."""
    return check_parameters(configured(env, **runtime)["parameters"], runtime)
