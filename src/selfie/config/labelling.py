"""Which pairs a human is asked to label (``--pipelines propose_labels``)."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from selfie.config.strict import StrictModel

INITIAL_MODEL = "initial_model"
BY_POLICY = ("uncertain", "disagreement")  # rules that look at what a trained policy says of all prompts' responses


class LabellingParameters(StrictModel):
    """The proposal of pairs, one a prompt, for ``selfie label``."""

    budget: PositiveInt = 60
    """Pairs to propose at most: the labels that there is time for."""
    samples_per_prompt: Annotated[int, Field(ge=2, le=1000)] = 2
    """Responses of which each pair is chosen. Where ``judging.choose_truncated`` is false, both of a pair are whole:
    the more of them the token limit cuts, the more are needed."""
    selection: Literal["random", "diverse", "uncertain", "disagreement"] = "random"
    """Of the prompts. ``random``: drawn by the seed. ``diverse``: they fall into as many clusters of like wording as
    the budget has pairs, and each gives the one in its middle. The other two sample all prompts and take a trained
    policy. ``uncertain``: those are proposed whose best and worst response differ least in its implicit reward.
    ``disagreement``: those of which its implicit reward, summed and per token, most surely prefers different ones.
    No rule proposes a response that the token limit cut where ``judging.choose_truncated`` is false."""
    policy: Annotated[str, Field(pattern=r"^(initial_model|policy_\d+)$")] = INITIAL_MODEL
    """Who responds: the initial model, or a policy of the experiment for a later round of labels."""

    @model_validator(mode="after")
    def _check_policy(self) -> Self:
        if self.selection in BY_POLICY and self.policy == INITIAL_MODEL:
            raise ValueError(
                f"selection {self.selection} needs a trained policy, whose reward against the initial model it "
                "measures: set policy to policy_0 or a later one, or selection to random or diverse"
            )
        return self
