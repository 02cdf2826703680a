"""On which devices the work of a stage is done, and by how many processes."""

from typing import Annotated, Literal

from pydantic import PositiveInt

from selfie.config.strict import NO_EFFECT, StrictModel


class ExecutionParameters(StrictModel):
    """How the shards of sampling, scoring and judging by a model are shared out, and the pairs of a training's step
    (docs/devices.md)."""

    backend: Annotated[Literal["local", "ray"], NO_EFFECT] = "local"
    """``local``: processes on this machine. ``ray``: actors on a Ray cluster; takes the extra ``ray``."""
    workers: Annotated[Literal["auto"] | PositiveInt, NO_EFFECT] = "auto"
    """Each holds a model of its own. ``auto``: one a GPU; without GPUs one on this machine, or one a node of Ray's.
    One local worker is the run's own process."""
    ray_address: Annotated[str | None, NO_EFFECT] = None
    """``HOST:PORT`` of a running cluster's head. null: Ray is started on this machine, for this run alone."""
    training_processes: Annotated[Literal["auto"] | PositiveInt, NO_EFFECT] = 1
    """Of preference training, seeding's too; they share out ``batch_size``. 1: the run's own process. ``auto``: one a
    GPU of this machine."""
    accelerate_config: Annotated[str | None, NO_EFFECT] = None
    """A file of ``accelerate config`` that says how several are started. null: the package's for data parallelism."""


DEFAULT_EXECUTION = ExecutionParameters()
