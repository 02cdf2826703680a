"""Every parameter with its meaning and range. Kedro checks them before any node runs; a misspelt one is an error."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class GenerationParameters(_Strict):
    """How responses are sampled (SPA: 2 samples at temperature 0.7, at most 300 new tokens)."""

    engine: Literal["auto", "transformers", "vllm"]
    samples_per_prompt: Annotated[int, Field(ge=2)]
    temperature: PositiveFloat
    top_p: Annotated[float, Field(gt=0, le=1)]
    max_new_tokens: PositiveInt
    batch_tokens: PositiveInt
    """Tokens (rows × longest row) that the transformers engine holds at once: its memory."""


class JudgingParameters(_Strict):
    """Who labels the pairs."""

    judge: Literal["logit", "gold"]
    batch_tokens: PositiveInt
    """Tokens (rows × longest row) scored in one forward pass."""


class TrainingParameters(_Strict):
    """One DPO training, seeding's or an iteration's."""

    learning_rate: PositiveFloat
    epochs: PositiveInt
    batch_size: PositiveInt
    """Pairs per optimiser step, over all processes."""
    micro_batch_size: PositiveInt
    """Pairs per forward pass of one process; divides ``batch_size``."""
    learning_rate_warmup: Annotated[float, Field(ge=0, lt=1)]
    """Share of the steps in which the learning rate rises; it then falls along a cosine."""
    weight_decay: Annotated[float, Field(ge=0)]
    max_grad_norm: PositiveFloat
    alpha: Fraction
    """α: how much of a flagged label is turned round. 0: plain DPO, no detector."""
    noise_percentile: Annotated[float, Field(ge=0, lt=100)]
    """K in percent: the share of pairs that is flagged."""
    extrapolation: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1)]
    """λ of iterations 1, 2, … (the last one holds on). 0: the detector sees the policy itself."""
    detector_window: PositiveInt
    """Pairs over which the percentile is taken."""
    trust_warmup: Fraction
    """Share of the steps, from the start, in which every label is trusted."""

    @model_validator(mode="after")
    def _check_batches(self) -> Self:
        if self.batch_size % self.micro_batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} does not divide batch_size {self.batch_size}")
        return self


class EvaluationParameters(_Strict):
    """How each policy is compared with the initial model."""

    annotator: Literal["gold", "none"]
    """``none`` writes the outputs in AlpacaEval's format and leaves the win rate to its own tools."""
    temperature: PositiveFloat
    max_new_tokens: PositiveInt
    bootstrap_samples: PositiveInt


class SeedLabellingParameters(_Strict):
    """How seed pairs are made where only prompts and a gold annotator are there (``--pipeline seed_labelling``)."""

    pairs: PositiveInt
    """Pairs to keep at most."""
    clear_gap: PositiveFloat
    """The annotator's scores of the two responses differ at least by this much, as a human's clear choice would."""


class WorldParameters(_Strict):
    """How much of the synthetic language there is."""

    corpus: PositiveInt
    """Sentences of the supervised model's corpus."""
    seed_pairs: PositiveInt
    prompts: PositiveInt
    evaluation_prompts: PositiveInt


class Parameters(_Strict):
    """All of them, as in ``conf/*/parameters*.yml``."""

    experiment: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: Annotated[int, Field(ge=0)]
    beta: PositiveFloat
    """β of the implicit reward and of the loss."""
    max_length: PositiveInt
    """Tokens of prompt and response together: longer prompts are left out, longer seed responses cut."""
    gold: Literal["plain_language", "world"] | None
    """The annotator that stands for the human, where there is one: it audits, and the loop never sees it."""
    prompts_per_iteration: list[PositiveInt]
    """Fresh prompts for iterations 1, 2, …; no prompt is used twice."""
    generation: GenerationParameters
    judging: JudgingParameters
    seeding: TrainingParameters
    training: TrainingParameters
    evaluation: EvaluationParameters
    seed_labelling: SeedLabellingParameters | None = None
    world: WorldParameters | None = None

    @model_validator(mode="after")
    def _check_gold(self) -> Self:
        needs = {"judging.judge": self.judging.judge, "evaluation.annotator": self.evaluation.annotator}
        for name, value in needs.items():
            if value == "gold" and self.gold is None:
                raise ValueError(f"{name} is gold, but the parameter gold names no annotator")
        return self
