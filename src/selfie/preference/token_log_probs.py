"""Log-probs of responses from hidden states, without holding [tokens × vocabulary] as a whole.

The language-model head is applied to a chunk of positions at a time; under autograd chunks are recomputed in the
backward pass, unless so few positions are scored that their logits may stay. That is what makes extrapolation
affordable: h̃ needs the logits of two models at once.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedConfig, PreTrainedModel

LOGITS = 2**24  # per chunk: 64 MiB in fp32, 128 positions of a vocabulary of 128k
CPU_LOGITS = 2**23  # 32 MiB stay in its cache: a fifth less time
KEPT_LOGITS = 2**26  # for the backward pass: 256 MiB in fp32


@dataclass(frozen=True)
class Head:
    """The language-model head: logits = softcap(scale · (h·Wᵀ + b)).

    The scale and the soft cap belong to the logits (Gemma 2 caps, Cohere multiplies, Granite divides), so they apply
    before two models' logits are combined.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    @classmethod
    def of(cls, model: PreTrainedModel) -> "Head":
        """Reads the head of a causal language model, with the scales its configuration names."""
        output = model.get_output_embeddings()
        config = model.config.get_text_config()
        scale = 1.0
        for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):  # Cohere, Muse Glimmer, Falcon-H1
            scale *= _setting(config, name) or 1.0
        scaling = _setting(config, "logits_scaling")  # Granite and MiniCPM3 divide, HyperCLOVA X multiplies
        if scaling is not None:
            scale *= scaling if config.model_type.startswith("hyperclovax") else 1 / scaling
        caps = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")  # Gemma, RecurrentGemma, xLSTM
        softcap = next((cap for name in caps if (cap := _setting(config, name))), None)
        return cls(output.weight, output.bias, scale, softcap)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [positions, vocabulary], in fp32 or better, of hidden states [positions, width]."""
        logits = torch.nn.functional.linear(hidden.to(self.weight.dtype), self.weight, self.bias)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.scale != 1:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        return logits

    def positions(self, logits: int) -> int:
        """How many positions have no more than so many logits: memory does not grow with the vocabulary."""
        return max(1, logits // len(self.weight))


def _setting(config: PreTrainedConfig, name: str) -> float | None:
    # Some are properties of the configuration's class, which to_dict() leaves out.
    return getattr(config, name, None)


def _pick(logits: Tensor, tokens: Tensor) -> Tensor:
    """Log softmax(logits)[token]: [positions, vocabulary], [positions] → [positions]."""
    return -torch.nn.functional.cross_entropy(logits, tokens, reduction="none")


def _chunk_logits(hidden: Tensor) -> int:
    return CPU_LOGITS if hidden.device.type == "cpu" else LOGITS


def token_log_probs(
    hidden: Tensor, tokens: Tensor, head: Head, chunk_logits: int | None = None, kept_logits: int = KEPT_LOGITS
) -> Tensor:
    """Log π(token | before) at each position.

    Args:
        hidden: last hidden states, shape [positions, width]; position t predicts ``tokens[t]``.
        tokens: the token ids to score, shape [positions].
        head: the model's head.
        chunk_logits: logits (positions × vocabulary) that exist at once.
        kept_logits: up to so many are kept for the backward pass, where they would else be computed again.

    Returns:
        Log-probs (nats) in fp32 or better, shape [positions], differentiable in ``hidden`` and the head.
    """

    def one_chunk(hidden: Tensor, tokens: Tensor) -> Tensor:
        return _pick(head.logits(hidden), tokens)

    chunk = head.positions(chunk_logits or _chunk_logits(hidden))
    pieces = zip(hidden.split(chunk), tokens.split(chunk), strict=True)
    if torch.is_grad_enabled() and len(tokens) > head.positions(kept_logits):
        return torch.cat([checkpoint(one_chunk, h, t, use_reentrant=False) for h, t in pieces])
    return torch.cat([one_chunk(h, t) for h, t in pieces])


@torch.no_grad()
def extrapolated_token_log_probs(
    policy_hidden: Tensor,
    policy_head: Head,
    reference_hidden: Tensor,
    reference_head: Head,
    tokens: Tensor,
    extrapolation: float,
    chunk_logits: int | None = None,
) -> tuple[Tensor, Tensor]:
    """log-probs under h̃ = (1+λ)·h_θ − λ·h_ref, normalised over the vocabulary (SPA, Section 4.3, Eq. for h̃).

    The paper's h are logits. Arguments as for :func:`token_log_probs`, once for each model; ``extrapolation`` is λ.
    No gradient flows: the detector only reads.

    Returns:
        Log-probs (nats) under h̃, and under the reference, whose logits are at hand; both of shape [positions].
    """
    chunk = policy_head.positions(chunk_logits or _chunk_logits(policy_hidden))
    pieces = zip(policy_hidden.split(chunk), reference_hidden.split(chunk), tokens.split(chunk), strict=True)
    extrapolated, reference = [], []
    for policy_states, reference_states, token in pieces:
        reference_logits = reference_head.logits(reference_states)
        both = torch.lerp(reference_logits, policy_head.logits(policy_states), 1 + extrapolation)
        extrapolated.append(_pick(both, token))
        reference.append(_pick(reference_logits, token))
    return torch.cat(extrapolated), torch.cat(reference)


@torch.no_grad()
def token_kl(hidden: Tensor, head: Head, other_hidden: Tensor, other_head: Head) -> Tensor:
    """KL(p ‖ q) of two models' next-token distributions at each position, in nats; shape [positions].

    Args:
        hidden: p's last hidden states, shape [positions, width].
        head: p's.
        other_hidden: q's, shape [positions, q's width].
        other_head: q's.
    """
    chunk = head.positions(_chunk_logits(hidden))
    log_probs = (
        (torch.log_softmax(head.logits(h), dim=-1), torch.log_softmax(other_head.logits(o), dim=-1))
        for h, o in zip(hidden.split(chunk), other_hidden.split(chunk), strict=True)
    )
    return torch.cat([(p.exp() * (p - q)).sum(dim=-1) for p, q in log_probs])


def sum_by_sequence(values: Tensor, sequence: Tensor, sequences: int) -> Tensor:
    """Sums per-token values into their sequences: [tokens], the sequence of each [tokens] → [sequences].

    In float64, since differences of these sums decide; Apple's accelerators have none.
    """
    dtype = torch.float32 if values.device.type == "mps" else torch.float64
    return values.new_zeros(sequences, dtype=dtype).index_add(0, sequence, values.to(dtype))
