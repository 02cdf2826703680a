"""Loads the policies and lets them talk."""

import sys
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from selfie.chat.conversation import Conversation
from selfie.chat.speaker import Speaker
from selfie.chat.votes import Votes
from selfie.config.parameters import Parameters
from selfie.generation.engine import Sampling
from selfie.generation.transformers_engine import TransformersEngine
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import sampling_arithmetic


def open_chat(policies: Mapping[str, Checkpoint], votes: Path, parameters: Parameters) -> None:
    """Talks to one policy, or to two side by side; they sample as in the evaluation.

    Args:
        policies: name → model, one or two.
        votes: the file for preference pairs.
        parameters: the run's.
    """
    evaluation, generation = parameters.evaluation, parameters.generation
    sampling = Sampling(evaluation.temperature, generation.top_p, evaluation.max_new_tokens)
    disable_progress_bar()
    if sys.stdin.isatty():
        with suppress(ImportError):  # lines can be edited and called back
            import readline  # noqa: F401
    with ExitStack() as stack:
        speakers = []
        for name, checkpoint in policies.items():
            arithmetic = sampling_arithmetic(parameters.precision.evaluation, checkpoint)
            engine = stack.enter_context(TransformersEngine(checkpoint, generation.batch_tokens, arithmetic))
            speakers.append(Speaker(name, engine, sampling, parameters.max_length))
        Conversation(speakers, Votes(votes), parameters.seed).run()
