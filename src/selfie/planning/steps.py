"""From a run's parameters and the sizes of its data to what each of its steps computes."""

from dataclasses import dataclass, replace

from selfie.config.parameters import Parameters
from selfie.config.training import OptimizerParameters
from selfie.diagnostics.drift import REJUDGED_PAIRS
from selfie.judges.label_agreement import PAIRS, SAMPLED_SHARE
from selfie.judges.openai_api import CHARACTERS_PER_TOKEN
from selfie.models.precision import SMALL_MODEL
from selfie.planning.hardware import Hardware
from selfie.planning.model_shape import ModelShape
from selfie.planning.work import FROZEN, REFERENCE, TRAINED, Kind, Work
from selfie.synthetic.pretraining import BATCH

ALONE = {"measure_precision", "rejudge_pairs", "score_answers", "score_heldout", "annotate_outputs", "pretrain_model"}
"""Steps that are not shared out to the devices: docs/devices.md."""


@dataclass(frozen=True)
class DataSizes:
    """Rows of the data, and mean tokens of a prompt and of a response."""

    seed_pairs: int
    evaluation_prompts: int
    heldout_pairs: int
    prompt: float
    response: float
    corpus: int = 0
    """Of the synthetic task's pretraining."""


@dataclass(frozen=True)
class Setting:
    """Everything that a step's work depends on."""

    parameters: Parameters
    sizes: DataSizes
    engine: str
    arithmetics: dict[str, str]
    """Of ``sampling``, ``evaluation``, ``scoring`` and ``training``, without ``auto``."""
    question_seconds: float = 2.0
    """Of an endpoint."""


def choose_arithmetics(parameters: Parameters, shape: ModelShape, hardware: Hardware) -> dict[str, str]:
    """What each ``precision`` comes to: :mod:`selfie.models.precision`, without the model and without the device.

    ``scoring: auto`` is decided in a run, by label agreement; here bf16 is taken to fail it, as it mostly does.
    """
    low = hardware.bf16 and shape.parameters >= SMALL_MODEL
    fast = "bfloat16" if low else "float32"
    auto = {"sampling": fast, "evaluation": fast, "scoring": hardware.scoring}
    auto["training"] = "mixed" if low else "float32"
    asked = parameters.precision.model_dump()
    return {name: choice if asked[name] == "auto" else asked[name] for name, choice in auto.items()}


def work_of(step: str, namespace: str | None, setting: Setting) -> Work | None:
    """What a step of the pipelines computes with a model; None for the others.

    Args:
        step: a node's name without its namespace.
        namespace: ``initial``, ``seeding``, ``iteration_1`` …; None outside.
        setting: the run's.
    """
    parameters, sizes = setting.parameters, setting.sizes
    number = (namespace or "").removeprefix("iteration_")
    iteration = int(number) if number.isdecimal() else 0
    prompts = parameters.prompts_per_iteration[iteration - 1] if iteration else sizes.seed_pairs
    samples, limit = parameters.generation.samples_per_prompt, parameters.generation.max_new_tokens
    answers = sizes.evaluation_prompts
    work: Work | None = None
    match step:
        case "generate_responses":
            models = 2 if parameters.generation.initial_samples else 1
            work = _sampling(setting, samples * prompts, limit, "sampling", models)
        case "generate_outputs":
            work = _sampling(setting, answers, parameters.evaluation.max_new_tokens, "evaluation")
        case "measure_precision":  # two models, each in two arithmetics
            few = min(SAMPLED_SHARE * prompts, 2 * PAIRS / (samples - 1))
            work = _scoring(setting, 4 * samples * few, samples, models=4)
        case "score_responses":
            work = _scoring(setting, 2 * samples * prompts, samples, models=2)
        case "judge_responses":
            work = _judging(setting, prompts, samples)
        case "rejudge_pairs":
            work = _scoring(setting, 2 * min(prompts, REJUDGED_PAIRS), 2)
        case "score_answers":  # after their own question and after another one
            work = _scoring(setting, 2 * answers, 1, precision="evaluation")
        case "score_heldout":
            work = _scoring(setting, 2 * sizes.heldout_pairs, 2)
        case "train_policy":
            work = _policy_training(setting, iteration, prompts)
        case "fit_reward_model" if parameters.reward_model is not None:
            tokens = int(parameters.reward_model.micro_batch_size * (2 * sizes.prompt + 2 * sizes.response))
            work = _training(setting, sizes.seed_pairs, parameters.reward_model, tokens)
        case "pretrain_model":  # single responses, two of which count as a pair
            work = _work("training", sizes.corpus, setting, "training")
            work = replace(work, passes=TRAINED, batch_tokens=BATCH * limit, batch_size=BATCH // 2)
        case "annotate_outputs" if namespace != "initial":
            work = _annotation(setting)
    return replace(work, alone=step in ALONE) if work else None


def _work(kind: Kind, rows: float, setting: Setting, precision: str) -> Work:
    return Work(kind, rows, setting.sizes.prompt, setting.sizes.response, setting.arithmetics[precision])


def _sampling(setting: Setting, rows: float, longest: int, precision: str, models: int = 1) -> Work:
    """Every row computes its prompt for itself."""
    work, tokens = _work("sampling", rows, setting, precision), setting.parameters.generation.batch_tokens
    response = min(work.response, longest)
    return replace(work, response=response, longest=longest, models=models, batch_tokens=tokens, engine=setting.engine)


def _scoring(setting: Setting, rows: float, sharing: float, models: int = 1, precision: str = "scoring") -> Work:
    tokens = setting.parameters.judging.batch_tokens
    return replace(_work("scoring", rows, setting, precision), sharing=sharing, models=models, batch_tokens=tokens)


def _training(setting: Setting, pairs: float, how: OptimizerParameters, tokens: int) -> Work:
    """Of a model without a reference."""
    return replace(
        _work("training", 2 * pairs * how.epochs, setting, "training"),
        sharing=2,
        passes=TRAINED,
        longest=setting.parameters.generation.max_new_tokens,
        batch_tokens=tokens,
        batch_size=how.batch_size,
    )


def _policy_training(setting: Setting, iteration: int, prompts: int) -> Work:
    """A pair a prompt, and in the iterations the human's pairs as often as they are replayed."""
    training = setting.parameters.training if iteration else setting.parameters.seeding
    pairs = prompts + (training.replay * setting.sizes.seed_pairs if iteration else 0)
    work = replace(
        _training(setting, pairs, training, training.batch_tokens),
        packed=training.lora_base == "nf4",
        small_moments=training.optimizer != "adamw",
        checkpointing=training.gradient_checkpointing,
    )
    again = 1 if training.gradient_checkpointing else 0  # a forward pass in the backward one
    if training.lora_rank:  # the frozen weights are the reference
        return replace(work, passes=FROZEN + REFERENCE + again, lora_rank=training.lora_rank)
    return replace(work, passes=TRAINED + REFERENCE + again, models=2)


def _judging(setting: Setting, prompts: int, samples: int) -> Work | None:
    """The implicit reward and gold annotators take the log-probs, or no model at all."""
    judging, sizes = setting.parameters.judging, setting.sizes
    if judging.judge == "prompted_policy" and judging.question is not None:
        pairs = prompts * samples * (samples - 1) / 2
        question = len(judging.question.template) / CHARACTERS_PER_TOKEN + sizes.prompt + 2 * sizes.response
        # Each pair in two orders, each with two verdicts that share the question.
        return replace(_scoring(setting, 4 * pairs, sharing=2), prompt=question, response=1)
    return _scoring(setting, samples * prompts, 1) if judging.judge == "reward_model" else None


def _annotation(setting: Setting) -> Work | None:
    """Questions to an endpoint; a judge on this machine counts as a model of the policy's size."""
    parameters, sizes = setting.parameters, setting.sizes
    annotation, prompts = parameters.annotation, parameters.judge_prompts.pairwise
    questions = sizes.evaluation_prompts * (2 if annotation.order == "both" else 1)
    question = (len(prompts.system) + len(prompts.user)) / CHARACTERS_PER_TOKEN + sizes.prompt + 2 * sizes.response
    match parameters.evaluation.annotator:
        case "openai_api":
            pace = setting.question_seconds / annotation.endpoint.concurrency
            pace = max(pace, 60 / (annotation.endpoint.requests_per_minute or float("inf")))
            return Work("asking", questions, question, 1, pace=pace)
        case "prompted_model":
            return replace(_scoring(setting, questions, 1, precision="evaluation"), prompt=question, response=1)
        case "reward_model":
            return _scoring(setting, 2 * sizes.evaluation_prompts, 1, precision="evaluation")
    return None
