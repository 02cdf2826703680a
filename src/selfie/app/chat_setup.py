"""What ``kedro chat`` needs of the project: the policies by name, the file of votes, the parameters."""

from collections.abc import Sequence
from pathlib import Path

from kedro.framework.context import KedroContext

from selfie.app.policies import find_policy
from selfie.app.preflight import check_parameters
from selfie.config.parameters import Parameters
from selfie.errors import ConfigurationError
from selfie.models.checkpoint import Checkpoint


def chat_setup(policies: Sequence[str], context: KedroContext) -> tuple[dict[str, Checkpoint], Path, Parameters]:
    """Label → model, the file of votes, and all parameters.

    Raises:
        ConfigurationError: there are more than two policies, or the file of votes is not a local JSONL file.
        ModelError: there is no policy of this name.
    """
    if len(set(policies)) != len(policies) or len(policies) > 2:  # noqa: PLR2004
        problem = "it takes one policy, or two different ones"
        raise ConfigurationError("chat", problem, "name them as `kedro chat policy_0 policy_1`")
    models = [find_policy(name, context.catalog) for name in policies]
    votes = str(context.catalog.config_resolver.resolve_pattern("chat_preferences")["filepath"])  # type: ignore[attr-defined]
    if "://" in votes or not votes.endswith(".jsonl"):
        problem = f"votes can't be added to {votes}"
        raise ConfigurationError("catalog, chat_preferences", problem, "name a local file that ends with .jsonl")
    parameters = check_parameters(context.config_loader["parameters"], context.config_loader.runtime_params or {})
    return dict(zip(_labels(policies), models, strict=True)), Path(votes), parameters


def _labels(policies: Sequence[str]) -> list[str]:
    """The ends of the paths, as much as tells them apart: what is stored with a vote is no path of this machine."""
    parts = [Path(name).parts for name in policies]
    for length in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(part[-length:]) for part in parts]
        if len(set(labels)) == len(labels):
            break
    return labels
