"""Every parameter with its meaning and range. Kedro checks them before any node runs; a misspelt one is an error."""

import string
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from selfie.config.capabilities import CapabilityParameters
from selfie.config.execution import DEFAULT_EXECUTION, ExecutionParameters
from selfie.config.export import ExportParameters
from selfie.config.gold import GoldParameters
from selfie.config.labelling import LabellingParameters
from selfie.config.plug_ins import plug_in
from selfie.config.strict import NO_EFFECT, Fraction, StrictModel
from selfie.config.training import RewardModelParameters, TrainingParameters

MODEL = "names a model, by its folder or its repository on the hub"
"""Marks a parameter that counts by what lies in the folder, too."""
RENAMED = {"trust_warmup": "detector_warmup", "alpha": "label_smoothing", "world": "synthetic"}
"""Old names of parameters → their names now: for one release the error says so."""
RENAMED_VALUES = {
    "judging.judge": {"logit": "implicit_reward", "llm": "prompted_policy"},
    "evaluation.annotator": {"llm": "openai_api", "local": "prompted_model"},
    "gold.annotator": {"plain_language": "style_guide", "world": "synthetic"},
    "preparation": {"world": "synthetic"},
}
"""Parameter → old names of its values → their names now."""
RENAMED_TO_GROUP = {"gold": "annotator"}
"""Parameters that were one value → the member of their group that is it now."""


class PrecisionParameters(StrictModel):
    """In which arithmetic the stages compute; ``auto`` goes by device and model (docs/precision.md)."""

    scoring: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    """Of the log-probs that the judge compares. ``auto``: the cheapest whose labels agree with float32's on a sample of
    each iteration's responses."""
    training: Literal["auto", "float32", "mixed"] = "auto"
    """``mixed``: float32 weights under bf16 autocast."""
    sampling: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the responses to be judged. ``float32`` where the log warns that bf16 swallows what was trained."""
    evaluation: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the answers to be compared, and of judges on this machine."""


class GenerationParameters(StrictModel):
    """How responses are sampled (SPA: 2 samples at temperature 0.7, at most 300 new tokens)."""

    engine: Annotated[
        str, plug_in("auto", "transformers", "vllm", takes="checkpoint, batch_tokens, max_length, arithmetic")
    ]
    """Or the path of an :class:`selfie.generation.engine.OpenEngine`. ``auto``: vLLM where it is installed."""
    samples_per_prompt: Annotated[int, Field(ge=2, le=1000)]
    initial_samples: Annotated[int, Field(ge=0)] = 0
    """How many of them are the initial model's, the others the policy's. 0 as in the paper. Later policies' samples are
    so alike that the judge can hardly tell them apart; beside the initial model's it can, and labels stay right."""
    temperature: PositiveFloat
    top_p: Annotated[float, Field(gt=0, le=1)]
    max_new_tokens: PositiveInt
    batch_tokens: PositiveInt
    """Tokens (rows × longest row) that the transformers engine holds at once: its memory."""
    shard_rows: PositiveInt = 512
    """Responses that are committed together: what a killed run has to sample again at most."""


class QuestionParameters(StrictModel):
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


class JudgingParameters(StrictModel):
    """Who labels the pairs."""

    judge: Annotated[
        str, plug_in("implicit_reward", "prompted_policy", "reward_model", "gold", takes="scored, context")
    ]
    """``implicit_reward``: of the policy, from its own log-probs (SPA). ``prompted_policy``: the policy's verdict on a
    question. ``reward_model``: the one in the catalog. ``gold``: the gold annotator, as an upper bound. Or the path
    of a :class:`selfie.judges.response_rewards.ResponseJudge`."""
    length: Literal["summed", "per_token", "neutral"] = "summed"
    """How ``implicit_reward`` counts length. ``summed``: the paper's; a sum can drift towards long responses.
    ``per_token``: the mean over the response's tokens.
    ``neutral``: what length predicts of the reward is taken out; not where the labels themselves prefer a length. Look
    at the lengths of chosen and rejected."""
    weighting: Literal["even", "margin"] = "even"
    """``even``: the paper's. ``margin``: a pair weighs in training as its margin does among all pairs'; for judges that
    are wrong often, where more labels are right the wider the margin (the report's reliability diagram shows it)."""
    support_percentile: Annotated[float, Field(ge=0, lt=50)] = 0.0
    """A response whose length, repetition or log π_init per token lies beyond this percentile (in percent, on either
    side) of the initial model's own responses to the iteration's prompts takes no part in any pair. 0: every response
    may, as in the paper. Above 0 it keeps the loop from learning what the judge overrates, and takes
    ``generation.initial_samples``."""
    choose_truncated: bool = True
    """Whether a response that the token limit cut may be chosen, as in the paper. If not, it can only be rejected: how
    it would have ended was not judged, and a policy that learns from it learns to be cut."""
    question: QuestionParameters | None = None
    """Needed by the judge ``prompted_policy``."""
    batch_tokens: PositiveInt
    """Tokens (rows × longest row) scored in one forward pass."""
    shard_rows: PositiveInt = 512
    """Responses whose log-probs are committed together."""

    @model_validator(mode="after")
    def _check_question(self) -> Self:
        if self.judge == "prompted_policy" and self.question is None:
            raise ValueError("the judge prompted_policy needs a question")
        return self


class EvaluationParameters(StrictModel):
    """How each policy is compared with the initial model."""

    annotator: Literal["gold", "openai_api", "prompted_model", "reward_model", "none"]
    """Who compares the answers. ``none`` writes them in AlpacaEval's format and leaves the win rate to its own tools;
    for the others see :class:`AnnotationParameters`."""
    temperature: PositiveFloat
    max_new_tokens: PositiveInt
    bootstrap_samples: PositiveInt


class Price(StrictModel):
    """What an endpoint charges, in dollars per million tokens."""

    prompt: Annotated[float, Field(ge=0)]
    completion: Annotated[float, Field(ge=0)]


class EndpointParameters(StrictModel):
    """An OpenAI-compatible chat endpoint. Its key is no parameter: see ``conf/base/credentials.yml``."""

    base_url: Annotated[str, Field(pattern=r"^https?://[^@]+$")]
    """Up to and with ``/v1``; a key does not belong here either, since parameters are logged."""
    model: str | None
    temperature: Annotated[float, Field(ge=0)]
    concurrency: Annotated[PositiveInt, NO_EFFECT]
    """Questions asked at the same time."""
    requests_per_minute: Annotated[PositiveInt | None, NO_EFFECT]
    timeout: Annotated[PositiveFloat, NO_EFFECT]
    """Seconds in which the endpoint may be silent."""
    attempts: Annotated[PositiveInt, NO_EFFECT]
    """Tries of a question that fails for a reason that may pass."""
    price: Price | None


class AnnotationParameters(StrictModel):
    """How a judge other than ``gold`` is asked."""

    order: Literal["both", "random"]
    """Of the two answers: ``both`` asks twice and takes the mean, ``random`` once, in an order drawn by the seed."""
    max_failures: Annotated[Fraction, NO_EFFECT]
    """Share of the questions that may stay without an answer; beyond it the evaluation stops."""
    judge_model: Annotated[str | None, MODEL]
    """``prompted_model``: a chat model; ``reward_model``: a sequence classifier. A folder or a hub repository."""
    judge_revision: str | None
    """The hub commit, pinned."""
    endpoint: EndpointParameters
    """``openai_api``'s, and MT-Bench's."""


class JudgePrompt(StrictModel):
    """What a judge is told. ``system`` and ``user`` are filled in by name; ``{{`` and ``}}`` stand for braces."""

    version: PositiveInt
    """To be raised with every change of the texts."""
    system: str
    user: str

    def check_fields(self, allowed: set[str]) -> None:
        """Raises ValueError where ``user`` lacks a field, or a text names an unknown one."""
        used = {name for text in (self.system, self.user) for _, name, *_ in string.Formatter().parse(text) if name}
        if used - allowed:
            raise ValueError(f"no such field: {', '.join(sorted(used - allowed))}")
        if allowed - used:
            raise ValueError(f"the field {', '.join(sorted(allowed - used))} is not used")


class JudgePrompts(StrictModel):
    """The prompts of the judges that read one."""

    pairwise: JudgePrompt
    """Which of two answers is better? Its reply is 1 or 2."""
    grading: JudgePrompt
    """MT-Bench's single-answer grading: its reply ends with ``Rating: `` and 1 to 10."""

    @field_validator("pairwise")
    @classmethod
    def _check_pairwise(cls, prompt: JudgePrompt) -> JudgePrompt:
        prompt.check_fields({"instruction", "answer_1", "answer_2", "fence"})
        return prompt

    @field_validator("grading")
    @classmethod
    def _check_grading(cls, prompt: JudgePrompt) -> JudgePrompt:
        prompt.check_fields({"conversation", "fence"})
        return prompt


class SeedLabellingParameters(StrictModel):
    """How seed pairs are made where only prompts and a gold annotator are there (``--pipeline seed_labelling``)."""

    samples_per_prompt: Annotated[int, Field(ge=2)]
    """Responses of the initial model to each seed prompt, of which the annotator compares those that were not cut."""
    pairs: PositiveInt
    """Pairs to keep at most."""
    clear_gap: PositiveFloat
    """The annotator's scores of the two responses differ at least by this much, as a human's clear choice would."""


class SyntheticParameters(StrictModel):
    """How much of the synthetic language there is."""

    corpus: PositiveInt
    """Responses in the supervised model's corpus."""
    verdicts: Annotated[int, Field(ge=0)]
    """Examples there of saying which of two responses is better: what a model knows of judging without labels."""
    labelled_pairs: PositiveInt
    """Pairs that carry a gold label; the parameter ``seed_pairs`` says how many are used."""
    prompts: PositiveInt
    evaluation_prompts: PositiveInt


class Parameters(StrictModel):
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
    gold: GoldParameters | None
    """The annotator that stands for the human, where there is one: it audits, and the loop never sees it."""
    seed_pairs: PositiveInt | None = None
    """Human-labelled pairs that are used, the first ones; all by default."""
    max_set_aside: Fraction
    """Share of a data set's rows that may fail data validation and be set aside; if more do, the run stops."""
    prompts_per_iteration: list[PositiveInt]
    """Fresh prompts for iterations 1, 2, …; no prompt is used twice."""
    precision: PrecisionParameters = PrecisionParameters()
    generation: GenerationParameters
    judging: JudgingParameters
    seeding: TrainingParameters
    training: TrainingParameters
    evaluation: EvaluationParameters
    reward_model: RewardModelParameters | None = None
    """Of the judge ``reward_model``, where it is trained on the seed pairs."""
    annotation: AnnotationParameters
    judge_prompts: JudgePrompts
    model_outputs: str | None = None
    """External outputs: a file of answers that ``--pipelines evaluation`` then compares, instead of the policies'."""
    reference_outputs: str | None = None
    """The answers that external outputs are compared with; the initial model's by default."""
    mt_bench_questions: str | None = None
    """MT-Bench's ``question.jsonl``, for ``--pipelines mt_bench``."""
    labelling: LabellingParameters = LabellingParameters()
    seed_labelling: SeedLabellingParameters | None = None
    synthetic: SyntheticParameters | None = None
    export: ExportParameters = ExportParameters()
    capabilities: CapabilityParameters = CapabilityParameters()
    execution: ExecutionParameters = DEFAULT_EXECUTION

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        needs = {"generation": self.generation.max_new_tokens, "evaluation": self.evaluation.max_new_tokens}
        for name, tokens in needs.items():
            if tokens >= self.max_length:
                raise ValueError(f"{name}.max_new_tokens {tokens} leaves no room for a prompt in max_length")
        return self

    @model_validator(mode="after")
    def _check_initial_samples(self) -> Self:
        samples, initial = self.generation.samples_per_prompt, self.generation.initial_samples
        if initial >= samples:
            raise ValueError(f"generation.initial_samples {initial} leaves no sample of {samples} to the policy")
        if self.judging.support_percentile and not initial:
            raise ValueError("judging.support_percentile is set, but generation.initial_samples is 0")
        return self

    @model_validator(mode="after")
    def _check_gold(self) -> Self:
        needs = {"judging.judge": self.judging.judge, "evaluation.annotator": self.evaluation.annotator}
        for name, value in needs.items():
            if value == "gold" and self.gold is None:
                raise ValueError(f"{name} is gold, but the parameter gold names no annotator")
        return self

    @model_validator(mode="after")
    def _check_annotator(self) -> Self:
        annotator = self.evaluation.annotator
        if annotator == "openai_api" and self.annotation.endpoint.model is None:
            raise ValueError("evaluation.annotator is openai_api, but annotation.endpoint.model names no model")
        if annotator in ("prompted_model", "reward_model") and self.annotation.judge_model is None:
            raise ValueError(f"evaluation.annotator is {annotator}, but annotation.judge_model names no model")
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
