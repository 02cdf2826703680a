"""Kedro's project settings. See https://docs.kedro.org/en/stable/configure/configuration_basics/."""

from selfie.app.hooks import ConsoleHooks, LockHooks, PreflightHooks, ProvenanceHooks, TimingHooks, quiet_libraries
from selfie.app.runner import continue_by_default
from selfie.config.methods import MethodConfigLoader
from selfie.storage.remote import environment
from selfie.tracking.mlflow_hooks import MlflowHooks

quiet_libraries()
continue_by_default()

# Kedro calls the last one first: the summary is tracked after it is timed, and a second run in the process is refused
# before it changes what the hooks know of the first.
HOOKS = (MlflowHooks(), ConsoleHooks(), TimingHooks(), ProvenanceHooks(), PreflightHooks(), LockHooks())
DISABLE_HOOKS_FOR_PLUGINS = ("kedro-telemetry",)

CONFIG_LOADER_CLASS = MethodConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "config_patterns": {"mlflow": ["mlflow*"], "methods": ["methods*"]},
    "merge_strategy": {"parameters": "soft"},  # an environment, or --params, changes what it names and no neighbour
    "custom_resolvers": {"env": environment},
}
