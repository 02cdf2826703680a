"""Does rounding decide labels? Measured on a sample of the responses that are about to be judged.

An implicit reward is the difference of two log-probs, a label the sign of the difference of two rewards. bf16 adds a
fraction of a nat to each log-prob, which can turn a small difference. So the responses of a few prompts are scored
twice, and the judge gets the cheapest arithmetic whose labels are those of float32 (docs/precision.md).
"""

import logging
from collections.abc import Iterator, Sequence
from itertools import combinations, groupby
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from scipy.stats import binomtest

from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import Arithmetic
from selfie.preference.token_log_probs import Head, token_kl
from selfie.runtime.memory import free_memory
from selfie.scoring.attention import share_prompts
from selfie.scoring.log_probs import response_hidden, score
from selfie.scoring.packed_rows import lay_out, stack

logger = logging.getLogger(__name__)
ENOUGH, WORRYING = 0.98, 0.95
PAIRS = 100  # enough to tell 0.98 from 0.9
SAMPLED_SHARE, CHECKED_SHARE = 1 / 8, 1 / 32  # of the prompts; float64, which checks float32, is slow
FEWEST_PROMPTS = 4
NOISY_SHARE = 0.1


def measure_agreement(
    responses: Dataset, policy: Checkpoint, initial: Checkpoint, candidates: Sequence[Arithmetic], batch_tokens: int
) -> dict[str, Any]:
    """Chooses the judge's arithmetic: the first candidate with 98% of the labels of float32, else the last one.

    Float32 is itself checked against float64 where it is the only candidate.

    Args:
        responses: rows with ``prompt_id``, ``prompt_ids`` and ``response_ids``, a prompt's rows together.
        policy: the one that judges.
        initial: the initial model.
        candidates: the cheapest first.
        batch_tokens: tokens (rows × longest row) of one forward pass.

    Returns:
        ``scoring`` (the choice), ``label_agreement`` of it with a 95% interval (``_ci``), ``agreement_pairs``,
        ``rounding_noise`` and ``reward_spread`` (standard deviations in nats, of rewards' differences between two
        responses: of what rounding adds, and of the differences themselves); ``refused``: the agreement of the
        candidates that were not taken.
    """
    exact = Arithmetic.FLOAT64 if list(candidates) == [Arithmetic.FLOAT32] else Arithmetic.FLOAT32
    sample = _sample(responses, CHECKED_SHARE if exact is Arithmetic.FLOAT64 else SAMPLED_SHARE)
    truth = _differences(sample, policy, initial, exact, batch_tokens)
    refused: dict[str, float] = {}
    for candidate in candidates:
        measured = truth if candidate is exact else _differences(sample, policy, initial, candidate, batch_tokens)
        agreeing = int((np.sign(measured) == np.sign(truth)).sum())
        agreement = agreeing / len(truth) if len(truth) else 1.0
        if agreement >= ENOUGH or candidate is candidates[-1]:
            break
        refused[str(candidate)] = agreement
    if agreement < WORRYING:
        logger.warning(
            "%s: only %.0f%% of the labels are those of float32; rounding decides the others (precision.scoring)",
            candidate,
            100 * agreement,
        )
    return {
        "scoring": str(candidate),
        "label_agreement": agreement,
        "label_agreement_ci": _interval(agreeing, len(truth)),
        "agreement_pairs": len(truth),
        "rounding_noise": float((measured - truth).std()) if len(truth) else None,
        "reward_spread": float(truth.std()) if len(truth) else None,
        "refused": refused,
    }


def measure_sampling(
    responses: Dataset, policy: Checkpoint, initial: Checkpoint, arithmetic: Arithmetic, batch_tokens: int
) -> dict[str, Any]:
    """How far the policy that was sampled (``arithmetic``) is from the trained one (float32), on its own samples.

    Returns:
        ``sampling``; ``sampling_kl``, KL(sampled ‖ trained) in nats a token, over the whole vocabulary at each
        position; ``sampling_kl_share``, its ratio to the trained policy's mean log-ratio to the initial model. None
        where the policy is sampled in float32.
    """
    if arithmetic is Arithmetic.FLOAT32:
        return {"sampling": str(arithmetic), "sampling_kl": None, "sampling_kl_share": None}
    sample = _sample(responses, CHECKED_SHARE)
    prompts, sampled = sample["prompt_ids"][:], sample["response_ids"][:]
    models = [policy.load_model(precision.dtype) for precision in (arithmetic, Arithmetic.FLOAT32)]
    longest = max(len(p) + len(r) for p, r in zip(prompts, sampled, strict=True))
    sharing = min([share_prompts(model, longest) for model in models])  # each is made ready
    total = 0.0
    with torch.inference_mode():
        for row in lay_out(prompts, sampled, sharing, longest=batch_tokens):
            rows = stack([row], sharing, models[0].device)
            hidden = [response_hidden(model, rows) for model in models]
            total += float(token_kl(hidden[0], Head.of(models[0]), hidden[1], Head.of(models[1])).double().sum())
    del models, hidden
    free_memory()
    scores = (score(model, prompts, sampled, batch_tokens, "precision") for model in (policy, initial))
    tokens = sum(map(len, sampled))
    kl, moved = total / tokens, float(np.subtract(*scores).sum()) / tokens
    share = kl / moved if moved > 0 else None
    if share is not None and share > NOISY_SHARE:
        logger.warning(
            "sampling in %s moves the policy by %.0f%% of what training did: set precision.sampling: float32",
            arithmetic,
            100 * share,
        )
    return {"sampling": str(arithmetic), "sampling_kl": kl, "sampling_kl_share": share}


def _interval(part: int, whole: int) -> list[float] | None:
    if not whole:
        return None
    bounds = binomtest(part, whole).proportion_ci(method="wilson")
    return [float(bounds.low), float(bounds.high)]


def _sample(responses: Dataset, share: float) -> Dataset:
    """The responses of prompts that are spread evenly over all."""
    samples = np.fromiter((sum(1 for _ in group) for _, group in groupby(responses["prompt_id"])), np.int64)
    first, pairs = samples.cumsum() - samples, max(1.0, (samples * (samples - 1) / 2).mean())
    wanted = min(len(samples), max(FEWEST_PROMPTS, min(round(PAIRS / pairs), round(share * len(samples)))))
    chosen = np.linspace(0, len(samples) - 1, wanted).round().astype(int)
    return responses.select(np.concatenate([first[number] + np.arange(samples[number]) for number in chosen]))


def _differences(
    sample: Dataset, policy: Checkpoint, initial: Checkpoint, arithmetic: Arithmetic, batch_tokens: int
) -> np.ndarray:
    """Differences of log π(y|x) − log π_init(y|x) between every two different responses to one prompt, in nats."""
    prompts, responses = sample["prompt_ids"][:], sample["response_ids"][:]
    policy_log_prob, initial_log_prob = (
        score(model, prompts, responses, batch_tokens, f"{name} in {arithmetic}", arithmetic=arithmetic)
        for name, model in (("policy", policy), ("initial model", initial))
    )
    rewards = policy_log_prob - initial_log_prob
    return np.array([rewards[i] - rewards[j] for i, j in _pairs(sample["prompt_id"][:], responses)])


def _pairs(prompt_ids: Sequence[str], responses: Sequence[list[int]]) -> Iterator[tuple[int, int]]:
    for _, group in groupby(range(len(prompt_ids)), key=prompt_ids.__getitem__):
        for first, second in combinations(group, 2):
            if responses[first] != responses[second]:
                yield first, second
