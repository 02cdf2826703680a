"""Parameters of the pipeline ``capabilities``."""

from pydantic import PositiveInt

from selfie.config.strict import StrictModel


class CapabilityParameters(StrictModel):
    """How much of each capability test is run."""

    max_items: PositiveInt | None = None
    """Of each test, the first ones; all by default."""
    max_new_tokens: PositiveInt = 1280
    """Of an answer to one of IFEval's prompts; lm-eval's number, with which published figures were measured."""
