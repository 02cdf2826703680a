"""Options that decide which nodes the pipelines have; read from ``globals.yml`` before they are built."""

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from kedro.framework import project
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from selfie.config.labelling import INITIAL_MODEL
from selfie.config.parameters import RENAMED_VALUES, Parameters
from selfie.errors import ConfigurationError

JUDGE_MODELS = {"prompted_policy": "previous_policy", "reward_model": "reward_model"}
MOST_ITERATIONS = 100


class PipelineOptions(BaseModel):
    """How many iterations there are, and how the initial model is made."""

    model_config = ConfigDict(frozen=True)

    iterations: Annotated[int, Field(ge=0, le=MOST_ITERATIONS)] = 2
    """0: only seeding."""
    preparation: Literal["gguf", "synthetic", "none"] = "gguf"
    """``gguf`` converts a quantised model file, ``synthetic`` makes the synthetic language; ``none``: it is there."""
    model_outputs: str | None = None
    """External outputs: a file of answers that the pipeline ``evaluation`` then compares, instead of the policies'."""
    judge_model: Literal["previous_policy", "reward_model"] | None = None
    """The dataset that the judge needs besides the responses."""
    heldout: bool = False
    """Whether there are held-out preferences to judge."""
    labelled_policy: str = INITIAL_MODEL
    """The dataset whose responses a human is asked to label."""
    label_selection: str = "random"
    """How the pairs for labels are chosen; by a policy's rewards, its responses have to be scored."""
    replay: bool = False
    """Whether the iterations train on the human's pairs too."""
    export_policy: str | None = None
    """The policy that is exported; the last one by default."""
    push: bool = False
    """Whether the export goes to the hub too."""
    reward_model: Literal["seeds", "none"] = "none"
    """``seeds``: the judge's reward model is trained on the seed pairs; ``none``: it is there."""

    @property
    def trains_reward_model(self) -> bool:
        """Whether there is one to train."""
        return self.judge_model == "reward_model" and self.reward_model == "seeds"


_current = PipelineOptions()


def current_options() -> PipelineOptions:
    """The options of the session's environment; outside a session the base environment's."""
    return _current.model_copy(update=_from_environment())


def choose_options(variables: Mapping[str, Any], parameters: Parameters) -> None:
    """Reads the options from the environment's globals and the judge; pipelines are built anew on their next use.

    ``SELFIE_ITERATIONS`` in the process's environment overrides the number of iterations, and the parameter
    ``iterations`` (``--params iterations=1``, or a method's) overrides both.

    Raises:
        ConfigurationError: a value is out of range.
    """
    global _current  # noqa: PLW0603 — Kedro builds pipelines without telling them the session's environment
    try:
        chosen: dict[str, Any] = {
            "judge_model": JUDGE_MODELS.get(parameters.judging.judge),
            "labelled_policy": parameters.labelling.policy,
            "label_selection": parameters.labelling.selection,
            "replay": parameters.training.replay > 0,
            "export_policy": parameters.export.policy,
            "push": parameters.export.push_to_hub is not None,
        }
        for name in ("iterations", "model_outputs"):
            if getattr(parameters, name) is not None:
                chosen[name] = getattr(parameters, name)
        _current = PipelineOptions.model_validate({**variables, **_from_environment(), **chosen})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        problem, remedy = first["msg"], "see src/selfie/config/pipeline_options.py"
        if choice := RENAMED_VALUES.get(name, {}).get(str(first["input"])):
            problem, remedy = f"{first['input']} was renamed to {choice}", f"set it to {choice}"
        raise ConfigurationError(f"globals.yml, {name}", problem, remedy) from error
    _check_export(_current)
    project.pipelines.configure(f"{project.PACKAGE_NAME}.pipeline_registry")


def _check_export(options: PipelineOptions) -> None:
    there = [f"policy_{k}" for k in range(options.iterations + 1)]
    if options.export_policy not in (None, *there):
        problem = f"there is no {options.export_policy}: the experiment has {', '.join(there)}"
        raise ConfigurationError("parameter export.policy", problem, "choose one of them, or null for the last one")


def _from_environment() -> dict[str, int]:
    value = os.environ.get("SELFIE_ITERATIONS")
    if value is None:
        return {}
    if not (value.isascii() and value.isdigit() and int(value[:9]) <= MOST_ITERATIONS):
        problem = f"{value!r:.40} is not a number of iterations"
        raise ConfigurationError("SELFIE_ITERATIONS", problem, f"set it to a number from 0 to {MOST_ITERATIONS}")
    return {"iterations": int(value)}
