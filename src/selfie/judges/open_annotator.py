"""The annotator that the parameters name."""

from pydantic import SecretStr

from selfie.config.gold import GoldParameters
from selfie.config.parameters import AnnotationParameters, JudgePrompts
from selfie.judges.comparisons import Annotator, ScorerAnnotator
from selfie.judges.gold import gold_scorer
from selfie.judges.openai_api import LlmAnnotator
from selfie.judges.openai_client import ChatClient
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import sampling_arithmetic


def open_annotator(
    name: str,
    parameters: AnnotationParameters,
    prompts: JudgePrompts,
    gold: GoldParameters | None,
    key: SecretStr,
    precision: str = "auto",
) -> Annotator | None:
    """``gold``, ``openai_api``, ``prompted_model`` or ``reward_model``; None for ``none``. Models load on first use.

    ``precision``: of a model on this machine, as ``precision.evaluation``.
    """
    if name == "gold" and gold is not None:
        return ScorerAnnotator(gold.annotator, gold_scorer(gold))
    if name == "openai_api":
        return LlmAnnotator(ChatClient(parameters.endpoint, key), prompts.pairwise)
    if name == "none":
        return None
    from selfie.judges.local_annotators import LocalAnnotator, RewardModelAnnotator

    checkpoint = Checkpoint(str(parameters.judge_model), parameters.judge_revision)
    arithmetic = sampling_arithmetic(precision, checkpoint)
    if name == "prompted_model":
        return LocalAnnotator(checkpoint, prompts.pairwise, arithmetic)
    return RewardModelAnnotator(checkpoint, arithmetic)
