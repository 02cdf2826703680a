"""How far is the policy from where it started, and does it still hold its own labels?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from scipy.stats import ttest_1samp

from selfie.config.parameters import JudgingParameters
from selfie.diagnostics.calibration import share_interval
from selfie.judges.response_rewards import response_rewards
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import Arithmetic
from selfie.runtime.random_seeds import derive_seed
from selfie.scoring.log_probs import score

REJUDGED_PAIRS = 256  # at most: the share of flips is then known to ±6 points


def kl_from_initial(scored: Dataset) -> dict[str, Any]:
    """KL(π ‖ π_init) in nats a response, by Monte Carlo: the mean of log π(y|x) − log π_init(y|x) over its samples.

    π is the policy that wrote the responses (π_{i−1} in iteration i). Samples drawn at a temperature below 1 or with a
    top-p below 1 are the likelier ones, and the estimate is then of their mean log-ratio, not of the KL itself.

    Args:
        scored: rows with ``prompt_id``, ``policy_log_prob`` and ``initial_log_prob``.

    Returns:
        ``kl_from_initial`` and ``kl_from_initial_ci``, a 95% t-interval over prompts, whose samples belong together;
        the interval is None for a single prompt.
    """
    frame = scored.select_columns(["prompt_id", "policy_log_prob", "initial_log_prob"]).to_pandas()
    ratios = (frame["policy_log_prob"] - frame["initial_log_prob"]).groupby(frame["prompt_id"]).mean()
    interval = None
    if len(ratios) > 1:
        bounds = ttest_1samp(ratios, 0).confidence_interval()
        interval = [float(bounds.low), float(bounds.high)] if ratios.std() > 0 else [float(ratios.mean())] * 2
    return {"kl_from_initial": float(ratios.mean()), "kl_from_initial_ci": interval}


def rejudge(
    pairs: Dataset,
    scored: Dataset,
    policy: Checkpoint,
    parameters: JudgingParameters,
    beta: float,
    seed: int,
    arithmetic: Arithmetic = Arithmetic.FLOAT32,
) -> Dataset:
    """The same pairs' margins with another policy as the judge: one pass over at most 256 pairs.

    The judges ``implicit_reward`` and ``prompted_policy`` judge again; where the labels come from elsewhere, the margin
    is the policy's implicit reward.

    Args:
        pairs: the labelled pairs.
        scored: the responses that they were made of, with ``initial_log_prob``.
        policy: the one that judges again.
        parameters: of the judge.
        beta: β of the implicit reward.
        seed: draws the pairs where there are more.
        arithmetic: in which the initial model was scored.

    Returns:
        Rows ``pair`` and ``next_margin``, the reward of chosen minus that of rejected.
    """
    if len(pairs) > REJUDGED_PAIRS:
        rng = np.random.default_rng(derive_seed(seed, "rejudging"))
        pairs = pairs.select(np.sort(rng.choice(len(pairs), REJUDGED_PAIRS, replace=False)))
    responses = Dataset.from_list(
        [
            {
                **{name: pair[name] for name in ("prompt_id", "prompt", "prompt_ids")},
                "response": pair[side],
                "response_ids": pair[f"{side}_ids"],
            }
            for pair in pairs
            for side in ("chosen", "rejected")
        ]
    )
    wanted = {_key(row) for row in responses}
    known = {
        key: row["initial_log_prob"]
        for row in scored.select_columns(["prompt_ids", "response_ids", "initial_log_prob"])
        if (key := _key(row)) in wanted
    }
    responses = responses.add_column("initial_log_prob", [known[_key(row)] for row in responses])
    if parameters.judge != "prompted_policy":
        parameters = parameters.model_copy(update={"judge": "implicit_reward"})
        prompts, sampled = responses["prompt_ids"], responses["response_ids"]
        log_probs = score(policy, prompts, sampled, parameters.batch_tokens, "next policy", arithmetic=arithmetic)
        responses = responses.add_column("policy_log_prob", log_probs)
    rewards = response_rewards(responses, parameters, beta, None, policy).numpy()
    return Dataset.from_dict({"pair": pairs["pair"][:], "next_margin": rewards[::2] - rewards[1::2]})


def _key(row: dict[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which response to which prompt it is."""
    return tuple(row["prompt_ids"]), tuple(row["response_ids"])


def flips(next_margins: Sequence[float]) -> dict[str, Any]:
    """``flip_rate``, the share of labels that the next policy would reverse, with its 95% interval."""
    flipped = sum(margin < 0 for margin in next_margins)
    return {"flip_rate": flipped / len(next_margins), "flip_rate_ci": share_interval(flipped, len(next_margins))}
