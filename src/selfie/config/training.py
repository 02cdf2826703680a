"""How models are trained: on preferences, and as reward models."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from selfie.config.plug_ins import plug_in
from selfie.config.strict import NO_EFFECT, Fraction, StrictModel


class OptimizerParameters(StrictModel):
    """How a model is trained, whatever the loss."""

    learning_rate: Annotated[float, Field(gt=0, le=1)]
    epochs: Annotated[int, Field(ge=1, le=1000)]
    batch_size: PositiveInt
    """Pairs per optimiser step, over all processes."""
    learning_rate_warmup: Annotated[float, Field(ge=0, lt=1)]
    """Share of the steps in which the learning rate rises; it then falls along a cosine."""
    weight_decay: Annotated[float, Field(ge=0)]
    max_grad_norm: PositiveFloat


class RewardModelParameters(OptimizerParameters):
    """The training of a reward model."""

    micro_batch_size: PositiveInt
    """Pairs per forward pass of one process; divides ``batch_size``."""

    @model_validator(mode="after")
    def _check_batches(self) -> Self:
        if self.batch_size % self.micro_batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} does not divide batch_size {self.batch_size}")
        return self


class TrainingParameters(OptimizerParameters):
    """One DPO training, seeding's or an iteration's."""

    batch_tokens: PositiveInt
    """Tokens (rows × longest row) of one forward and backward pass of one process: its memory. No pair is split."""
    lora_rank: Annotated[int, Field(ge=0, le=4096)] = 0
    """0: all weights are trained, as in the paper. Above: adapters of this rank (LoRA, arXiv 2106.09685) on the linear
    layers but the head (of some mixtures of experts only on the attention's, which the log says), merged into the
    weights at the end. The weights stay in bf16 and are the reference, gradients and the optimiser's moments are the
    adapters' alone. Wants a learning rate some ten times as high, else bf16 swallows the change: the log says so."""
    lora_alpha: PositiveInt = 32
    """What adapters add is multiplied by this over their rank."""
    lora_base: Literal["bfloat16", "nf4"] = "bfloat16"
    """What the frozen weights under adapters are stored in while these are trained. ``nf4``: 4 bits ("QLoRA",
    arXiv 2305.14314), a quarter of the memory, by the package bitsandbytes (extra ``quantised``); the adapters are
    merged into the weights as they were."""
    gradient_checkpointing: Annotated[bool, NO_EFFECT] = False
    """Keep each layer's input alone for the backward pass and compute the layer again there (arXiv 1604.06174): less
    memory, one more forward pass, the same policy."""
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = "adamw"
    """``adamw_8bit``: with moments in 8 bits (arXiv 2110.02861), but the embeddings', by bitsandbytes.
    ``paged_``: they move to the CPU's memory where the GPU's runs out."""
    loss: Annotated[str, plug_in("noise_aware", "conservative", "robust", takes="margin, flagged, label_smoothing")]
    """``noise_aware``: SPA's. ``conservative``: cDPO. ``robust``: rDPO; both treat every label alike. Or the path of a
    :class:`selfie.preference.losses.Loss`, to which flagged pairs are shown."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)]
    """The paper's α, of pairs flagged as noisy (``noise_aware``) or of all pairs. 0: plain DPO, no
    detector."""
    noise_percentile: Annotated[float, Field(ge=0, lt=100)]
    """K in percent: a pair is flagged whose margin is among the lowest K% of the window before its step."""
    extrapolation: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1)]
    """λ of iterations 1, 2, … (the last one holds on). 0: the detector sees the policy itself."""
    detector_window: PositiveInt
    """Pairs over which the percentile is taken."""
    detector_warmup: Fraction
    """Share of the steps, from the start, in which no pair is flagged: first the detector's window has to fill."""
    replay: Annotated[int, Field(ge=0)] = 0
    """How often the human's pairs are added to an iteration's own; they are never flagged. 0 as in the paper;
    1 or more keeps the policy close to the human's preferences, and costs as many more pairs."""
    checkpoint_steps: Annotated[PositiveInt, NO_EFFECT] = 50
    """Optimiser steps between checkpoints (weights, optimiser, random streams) from which a killed run goes on."""

    nll_weight: Annotated[float, Field(ge=0)] = 0.0
    """γ: how much the chosen responses' negative log-prob per token counts beside the preference loss. 0 as in the
    paper; above 0 where lengths or repetition drift from one policy to the next: it keeps what was chosen likely."""

    @model_validator(mode="after")
    def _check_lora_base(self) -> Self:
        if self.lora_base == "nf4" and not self.lora_rank:
            raise ValueError("lora_base nf4 is for adapters: set lora_rank, such as 16, or lora_base to bfloat16")
        return self

    @property
    def quantised(self) -> bool:
        """Whether bitsandbytes takes part."""
        return self.lora_base == "nf4" or self.optimizer != "adamw"

    @property
    def detects_noise(self) -> bool:
        """Whether pairs are checked by the noise detector."""
        return self.loss not in ("conservative", "robust") and self.label_smoothing > 0
