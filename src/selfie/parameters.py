"""Every parameter with its meaning and range. Kedro checks them before any node runs; a misspelt one is an error."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class GenerationParameters(_Strict):
    """How responses are sampled (SPA: 2 samples at temperature 0.7, at most 300 new tokens)."""

    engine: Literal["auto", "transformers", "vllm"]
    samples_per_prompt: Annotated[int, Field(ge=2, le=1000)]
    temperature: PositiveFloat
    top_p: Annotated[float, Field(gt=0, le=1)]
    max_new_tokens: PositiveInt
    batch_tokens: PositiveInt
    """Tokens (rows × longest row) that the transformers engine holds at once: its memory."""
    shard_rows: PositiveInt = 512
    """Responses that are committed together: what a killed run has to sample again at most."""


class QuestionParameters(_Strict):
    """How a model is asked which of two responses is better."""

    template: str
    """The user's turn, with ``{prompt}``, ``{response_1}`` and ``{response_2}``."""
    verdicts: Annotated[list[str], Field(min_length=2, max_length=2)]
    """What the judge answers where the first, and where the second response is better."""

    @model_validator(mode="after")
    def _check_template(self) -> Self:
        missing = [name for name in ("{prompt}", "{response_1}", "{response_2}") if name not in self.template]
        if missing:
            raise ValueError(f"the template lacks {', '.join(missing)}")
        return self


class JudgingParameters(_Strict):
    """Who labels the pairs."""

    judge: Literal["logit", "llm", "reward_model", "gold"]
    """``logit``: the policy's own log-probs (SPA). ``llm``: the policy, asked in words. ``reward_model``: the one in
    the catalog. ``gold``: the annotator, as an upper bound."""
    length_normalised: bool = False
    """Whether the judge ``logit`` compares rewards per token. The paper sums; a sum favours what the seed pairs made
    likely by length, and the loop then drifts towards the longest or shortest responses."""
    question: QuestionParameters | None = None
    """Needed by the judge ``llm``."""
    batch_tokens: PositiveInt
    """Tokens (rows × longest row) scored in one forward pass."""
    shard_rows: PositiveInt = 512
    """Responses whose log-probs are committed together."""

    @model_validator(mode="after")
    def _check_question(self) -> Self:
        if self.judge == "llm" and self.question is None:
            raise ValueError("the judge llm needs a question")
        return self


class OptimizerParameters(_Strict):
    """How a model is trained, whatever the loss."""

    learning_rate: Annotated[float, Field(gt=0, le=1)]
    epochs: Annotated[int, Field(ge=1, le=1000)]
    batch_size: PositiveInt
    """Pairs per optimiser step, over all processes."""
    micro_batch_size: PositiveInt
    """Pairs per forward pass of one process; divides ``batch_size``."""
    learning_rate_warmup: Annotated[float, Field(ge=0, lt=1)]
    """Share of the steps in which the learning rate rises; it then falls along a cosine."""
    weight_decay: Annotated[float, Field(ge=0)]
    max_grad_norm: PositiveFloat

    @model_validator(mode="after")
    def _check_batches(self) -> Self:
        if self.batch_size % self.micro_batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} does not divide batch_size {self.batch_size}")
        return self


class TrainingParameters(OptimizerParameters):
    """One DPO training, seeding's or an iteration's."""

    loss: Literal["noise_aware", "conservative", "robust"]
    """``noise_aware``: SPA's. ``conservative``: cDPO. ``robust``: rDPO; both distrust every label alike."""
    alpha: Annotated[float, Field(ge=0, lt=0.5)]
    """α: how much of a label is turned round, of a flagged pair (``noise_aware``) or of every one. 0: plain DPO, no
    detector."""
    noise_percentile: Annotated[float, Field(ge=0, lt=100)]
    """K in percent: a pair is flagged whose margin is among the lowest K% of the window before its step."""
    extrapolation: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1)]
    """λ of iterations 1, 2, … (the last one holds on). 0: the detector sees the policy itself."""
    detector_window: PositiveInt
    """Pairs over which the percentile is taken."""
    trust_warmup: Fraction
    """Share of the steps, from the start, in which every label is trusted."""
    replay: Annotated[int, Field(ge=0)] = 0
    """How often the human's pairs are added to an iteration's own; their labels are always trusted. 0 as in the paper;
    1 or more holds the loop to what the human wanted, and costs as many more pairs."""
    checkpoint_steps: PositiveInt = 50
    """Optimiser steps between checkpoints (weights, optimiser, random streams) from which a killed run goes on."""

    @property
    def detects_noise(self) -> bool:
        """Whether single pairs are questioned."""
        return self.loss == "noise_aware" and self.alpha > 0


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
    """Responses in the supervised model's corpus."""
    verdicts: Annotated[int, Field(ge=0)]
    """Examples there of saying which of two responses is better: what a model knows of judging without labels."""
    labelled_pairs: PositiveInt
    """Pairs that carry a gold label; the parameter ``seed_pairs`` says how many are used."""
    prompts: PositiveInt
    evaluation_prompts: PositiveInt


class Parameters(_Strict):
    """All of them, as in ``conf/*/parameters*.yml``."""

    experiment: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    method: str | None = None
    """Which of ``methods.yml`` was laid over the other parameters, if one was."""
    iterations: Annotated[int, Field(ge=0)] | None = None
    """Overrides the number in ``globals.yml``; 0: only seeding."""
    seed: Annotated[int, Field(ge=0)]
    beta: PositiveFloat
    """β of the implicit reward and of the loss."""
    max_length: PositiveInt
    """Tokens of prompt and response together: longer prompts are left out, longer seed responses cut."""
    gold: Literal["plain_language", "world"] | None
    """The annotator that stands for the human, where there is one: it audits, and the loop never sees it."""
    seed_pairs: PositiveInt | None = None
    """Human-labelled pairs that are used, the first ones; all by default."""
    max_set_aside: Fraction
    """Share of a data set's rows that may fail the data gate and be set aside; if more do, the run stops."""
    prompts_per_iteration: list[PositiveInt]
    """Fresh prompts for iterations 1, 2, …; no prompt is used twice."""
    generation: GenerationParameters
    judging: JudgingParameters
    seeding: TrainingParameters
    training: TrainingParameters
    evaluation: EvaluationParameters
    reward_model: OptimizerParameters | None = None
    """Of the judge ``reward_model``, where it is trained on the seed pairs."""
    seed_labelling: SeedLabellingParameters | None = None
    world: WorldParameters | None = None

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        needs = {"generation": self.generation.max_new_tokens, "evaluation": self.evaluation.max_new_tokens}
        for name, tokens in needs.items():
            if tokens >= self.max_length:
                raise ValueError(f"{name}.max_new_tokens {tokens} leaves no room for a prompt in max_length")
        return self

    @model_validator(mode="after")
    def _check_gold(self) -> Self:
        needs = {"judging.judge": self.judging.judge, "evaluation.annotator": self.evaluation.annotator}
        for name, value in needs.items():
            if value == "gold" and self.gold is None:
                raise ValueError(f"{name} is gold, but the parameter gold names no annotator")
        return self


def flatten(parameters: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested parameters as dotted names; pydantic models count as mappings."""
    flat: dict[str, Any] = {}
    for key, value in parameters.items():
        nested = value.model_dump() if hasattr(value, "model_dump") else value
        if isinstance(nested, Mapping):
            flat.update(flatten(nested, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = nested
    return flat
