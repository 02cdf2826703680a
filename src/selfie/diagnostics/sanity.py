"""Does a policy that wins still answer the question, in sensible words? The initial model says, which is not trained.

What a policy learns from may be won by answers that nobody would want. The initial model saw none of it: it says how
likely it finds the answers, and whether they belong to their questions.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset

from selfie.diagnostics.calibration import share_interval
from selfie.evaluation.alpaca_files import Record
from selfie.models.chat_template import render
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import Arithmetic
from selfie.runtime.random_seeds import derive_seed
from selfie.scoring.log_probs import score

DRAW = 50  # percent
MOST_PERPLEXITY = 1.5  # times the initial model's
MOST_OFF_TOPIC = 0.05  # below the initial model's
MOST_TRUNCATED = 0.1  # above the initial model's
MOST_REPETITION = (3, 0.02)  # times the initial model's, and this much above it: that may be next to nothing


def other_questions(instructions: Iterable[str], seed: int) -> dict[str, str]:
    """Each instruction → another one, each of them once: a derangement, the same for all policies of a run."""
    distinct = sorted(set(instructions))
    drawn = np.random.default_rng(derive_seed(seed, "other questions")).permutation(len(distinct))
    return {distinct[one]: distinct[other] for one, other in zip(drawn, np.roll(drawn, 1), strict=True)}


def score_under_initial(
    outputs: Sequence[Record], initial_model: Checkpoint, batch_tokens: int, seed: int, arithmetic: Arithmetic
) -> Dataset:
    """The initial model's log-probs of the sampled answers.

    Args:
        outputs: ``instruction``, ``response_ids``; ``messages`` where the instruction has several turns.
        initial_model: the model before any training.
        batch_tokens: tokens (rows × longest row) of one forward pass.
        seed: the run's; draws the other questions.
        arithmetic: of the forward passes.

    Returns:
        One row an answer: ``log_prob`` after its own question and ``other_log_prob`` after another prompt's, both
        summed over the answer's tokens (nats).
    """
    tokenizer = initial_model.load_tokenizer()
    prompts = {
        record["instruction"]: render(
            tokenizer, record.get("messages") or [{"role": "user", "content": record["instruction"]}]
        )
        for record in outputs
    }
    other = other_questions(prompts, seed)
    asked = [record["instruction"] for record in outputs]
    both = score(
        initial_model,
        [prompts[one] for one in asked] + [prompts[other[one]] for one in asked],
        [record["response_ids"] for record in outputs] * 2,
        batch_tokens,
        "initial model",
        arithmetic=arithmetic,
    )
    own, others = np.split(both, 2)
    return Dataset.from_dict({"log_prob": own, "other_log_prob": others})


def answers_under_initial(outputs: Sequence[Record], scores: Dataset) -> dict[str, Any]:
    """What the initial model makes of the answers, and how many the token limit cut.

    Args:
        outputs: ``instruction``, ``response_ids``, ``finish_reason``.
        scores: as :func:`score_under_initial` gives them.

    Returns:
        ``perplexity`` of a token, exp(−Σ log p / Σ tokens) over all answers. ``on_topic``, the share of answers that
        make their own question likelier than another prompt's: the two being equally likely beforehand, Bayes' rule
        says that they do where log p(answer | own question) > log p(answer | other question); None where there is one
        question only. ``truncated``, the share of answers that the token limit cut. Shares are in [0, 1], with
        Wilson's 95% interval under ``NAME_ci``.
    """
    own, others = (np.array(scores[name][:]) for name in ("log_prob", "other_log_prob"))
    tokens = sum(len(record["response_ids"]) for record in outputs)
    cut = sum(record["finish_reason"] == "length" for record in outputs)
    known = len({record["instruction"] for record in outputs}) > 1
    fitting = int((own > others).sum())
    return {
        "perplexity": float(np.exp(-own.sum() / tokens)),
        "on_topic": fitting / len(outputs) if known else None,
        "on_topic_ci": share_interval(fitting, len(outputs)) if known else None,
        "truncated": cut / len(outputs),
        "truncated_ci": share_interval(cut, len(outputs)),
    }


def find_drift(
    measured: Mapping[str, Any],
    initial: Mapping[str, Any],
    win_rate_ci: list[float] | None,
    change_ci: list[float] | None,
) -> dict[str, Any]:
    """Whether a policy wins with answers that make less sense than the initial model's.

    Args:
        measured: the policy's ``perplexity``, ``on_topic``, ``truncated`` and ``repetition``.
        initial: the initial model's.
        win_rate_ci: 95% interval of the win rate over the initial model, in percent; None without an annotator.
        change_ci: 95% interval of the change of the style guide's share since the initial model; None without one.

    Returns:
        ``perplexity_ratio``, the perplexity of the policy's answers under the initial model over that of the initial
        model's own. ``drifted``: it wins (one of the intervals is all above a draw) and loses at least one of four:
        perplexity ratio above 1.5, on topic more than 5 points below the initial model, truncated more than 10 points
        above it, repetition above three times the initial model's plus 0.02. ``drift_reasons``: each that it loses →
        the policy's figure; empty where it has not drifted.
    """
    ratio = measured["perplexity"] / initial["perplexity"]
    times, more = MOST_REPETITION
    limits = {
        "perplexity_ratio": (ratio, MOST_PERPLEXITY),
        "truncated": (measured["truncated"], initial["truncated"] + MOST_TRUNCATED),
    }
    if measured["repetition"] is not None and initial["repetition"] is not None:
        limits["repetition"] = (measured["repetition"], times * initial["repetition"] + more)
    lost = {name: value for name, (value, most) in limits.items() if value > most}
    if measured["on_topic"] is not None and measured["on_topic"] < initial["on_topic"] - MOST_OFF_TOPIC:
        lost["on_topic"] = measured["on_topic"]
    wins = (win_rate_ci is not None and win_rate_ci[0] > DRAW) or (change_ci is not None and change_ci[0] > 0)
    return {"perplexity_ratio": ratio, "drifted": wins and bool(lost), "drift_reasons": lost if wins else {}}
