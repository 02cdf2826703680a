"""What all groups of parameters have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

NO_EFFECT = "says how the work is done, not what comes of it"
"""Marks a parameter whose change makes no result stale."""
Fraction = Annotated[float, Field(ge=0, le=1)]


class StrictModel(BaseModel):
    """Knows its fields and no others, and takes no value for another type's; can't be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
