"""Checks before expensive work starts."""

import difflib
import logging
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, get_args

import torch
from kedro.io import CatalogProtocol, DatasetError
from kedro.pipeline import Pipeline
from pydantic import BaseModel, ValidationError

from selfie.config.parameters import RENAMED, RENAMED_TO_GROUP, RENAMED_VALUES, Parameters
from selfie.config.plug_ins import UNKNOWN_PART, resolve
from selfie.data.file_readers import Row
from selfie.data.validation import COMPARED, SetAside, outliers, screen
from selfie.datasets import RecordDataset
from selfie.errors import ConfigurationError, DataError, ModelError, UserError
from selfie.execution.map_shards import check_execution
from selfie.generation.engine_choice import choose_engine
from selfie.models.chat_template_checks import Conversation, check_conversations, check_model
from selfie.models.checkpoint import Checkpoint
from selfie.preference.losses import LOSSES
from selfie.training.processes import check_processes
from selfie.training.trainer_settings import check_libraries

logger = logging.getLogger(__name__)
POLICY = re.compile(r"policy_\d+")
USER_DATA = (
    "seed_preferences",
    "heldout_preferences",
    "evaluation_prompts",
    "prompts",
    "model_outputs",
    "reference_outputs",
    "mt_bench_questions",
    "capability_questions",
    "neutral_text",
    "ifeval_prompts",
)


def check_parameters(configured: Mapping[str, Any], runtime: Mapping[str, Any]) -> Parameters:
    """All parameters of ``conf/``, with those of ``--params`` laid over them.

    Raises:
        ConfigurationError: one is misspelt, of the wrong type or out of range.
    """
    try:
        return Parameters.model_validate(_overlay(configured, runtime))
    except ValidationError as error:
        problems = [_describe(item) for item in error.errors()]
        where = ", ".join(problem[0] for problem in problems)
        raise ConfigurationError(
            f"parameter {where}",
            "; ".join(problem[1] for problem in problems),
            "; ".join(dict.fromkeys(problem[2] for problem in problems)),
        ) from error


def check_inputs(pipeline: Pipeline, catalog: CatalogProtocol, parameters: Parameters, iterations: int) -> None:
    """Reads and checks what the run takes from the user: data, model, engine. Rows that fail are set aside.

    Raises:
        DataError, ModelError, ConfigurationError: it can't be used.
    """
    free = pipeline.inputs()
    choose_engine(parameters.generation.engine)
    check_execution(parameters.execution)
    for name, training in (("seeding", parameters.seeding), ("training", parameters.training)):
        _check_loss(f"{name}.loss", training.loss)
        if f"params:{name}" in free:
            check_processes(parameters.execution, name, training)
            check_libraries(name, training)
    judge = parameters.annotation.judge_model
    if judge and parameters.evaluation.annotator in ("prompted_model", "reward_model") and "params:annotation" in free:
        Checkpoint(judge, parameters.annotation.judge_revision).check_files()
    if "labels" in free:
        _check_policy(free, catalog)
    checkpoint = _load(catalog, "initial_model") if "initial_model" in free else None
    tokenizer = check_model(checkpoint, parameters) if checkpoint else None
    records = _records(free, catalog)
    rows, set_aside = screen(records, parameters, tokenizer)
    counts = {name: len(kept) for name, kept in rows.items()}
    counts |= {name: len(_load(catalog, name)) for name in USER_DATA if name in free and name not in records}
    if "prompts" in free:
        _check_enough(counts["prompts"], parameters.prompts_per_iteration, iterations)
    if checkpoint and tokenizer:
        check_conversations(checkpoint.source, tokenizer, _conversations(records, rows))
    for name, kept in rows.items():
        for line in outliers(name, kept):
            logger.info(line)
    _record(catalog, records, set_aside)


def _check_loss(parameter: str, name: str) -> None:
    """A loss from outside is tried on two pairs at once: its turn comes late in a run."""
    if name in LOSSES:
        return
    margin = torch.zeros(2, requires_grad=True)
    try:
        losses = resolve(name, LOSSES)(margin, torch.tensor([True, False]), 0.1)
        torch.autograd.grad(losses.sum(), margin)
    except Exception as error:  # the user's code may fail in every way
        problem = f"{name} fails on two margins of 0 ({type(error).__name__}: {error})"
        raise ConfigurationError(parameter, problem, "mend the function") from error
    if losses.shape != margin.shape:
        problem = f"{name} gives a tensor of shape {list(losses.shape)} for two pairs"
        raise ConfigurationError(parameter, problem, "return one loss a pair: no mean, no sum")


def _check_policy(free: set[str], catalog: CatalogProtocol) -> None:
    """A policy whose responses are to be labelled is there with all that its manifest lists."""
    for name in free:
        if POLICY.fullmatch(name) and not catalog.exists(name):
            remedy = f"make it with `kedro run` (or all that leads to {name} of it), or set labelling.policy to another"
            raise ModelError(name, "this policy is not there, or not complete", remedy)


def _records(free: set[str], catalog: CatalogProtocol) -> dict[str, RecordDataset]:
    """The user's data sets that the run reads, and those that their rows are compared with."""
    wanted = free | {kept for kept, other in COMPARED if other in free}
    named = {name: catalog.get(name) for name in (*USER_DATA, "seed_prompts") if name in wanted and name in catalog}
    found = {name: dataset for name, dataset in named.items() if isinstance(dataset, RecordDataset)}
    return {name: dataset for name, dataset in found.items() if name in free or dataset.exists()}


def _conversations(records: Mapping[str, RecordDataset], rows: Mapping[str, Sequence[Row]]) -> Iterator[Conversation]:
    for name, kept in rows.items():
        for row in kept:
            responses = (row["chosen"], row["rejected"]) if "chosen" in row else ()
            yield Conversation(records[name].source, row["row"], row["messages"], responses)


def _record(catalog: CatalogProtocol, checked: Container[str], set_aside: list[SetAside]) -> None:
    """Keeps the rows that no run uses in the dataset ``quarantine``, and says how many there are.

    A part of the run checks a part of the data; what was found in the others stays listed.
    """
    dataset = catalog.get("quarantine")
    if dataset is None:
        return
    before = dataset.load() if dataset.exists() else []
    now = [row for row in before if row["dataset"] not in checked] + [row._asdict() for row in set_aside]
    if now != before:
        dataset.save(now)
    if set_aside:
        file = dataset._describe()["filepath"]
        logger.warning("%d rows of the data are not used; which ones and why: %s", len(set_aside), file)


def _load(catalog: CatalogProtocol, name: str) -> Any:
    """Loads a dataset; Kedro wraps what goes wrong, and the user wants the error itself."""
    try:
        return catalog.load(name)
    except DatasetError as wrapped:
        error: BaseException | None = wrapped
        while error is not None and not isinstance(error, UserError):
            error = error.__cause__
        if error is None:
            raise DataError(f"dataset {name}", str(wrapped), "run the pipeline that makes it, or mend it") from wrapped
        raise error from None


def _overlay(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
        merged[key] = _overlay(base[key], value) if both else value
    return merged


def _describe(error: Any) -> tuple[str, str, str]:
    name = ".".join(map(str, error["loc"]))
    renamed = _describe_renamed(name, error["type"], error["input"])
    if renamed:
        return renamed
    if error["type"] == UNKNOWN_PART:
        return name, error["msg"], error["ctx"]["remedy"]
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(error["loc"][-1]), _known_names(Parameters), n=1)
        return name, "there is no such parameter", f"did you mean {close[0]}?" if close else "remove it"
    if error["type"] == "missing":
        return name, "it is missing", "set it in conf/"
    shown = "" if isinstance(error["input"], dict) else f" (it is {error['input']!r})"
    return name, f"{error['msg']}{shown}", "see src/selfie/config/parameters.py for what it may be"


def _describe_renamed(name: str, kind: str, value: Any) -> tuple[str, str, str] | None:
    last = name.rpartition(".")[-1]
    if kind == "extra_forbidden" and last in RENAMED:
        full = name.removesuffix(last) + RENAMED[last]
        return name, f"it was renamed to {full}", f"set {full} instead"
    if kind in ("literal_error", UNKNOWN_PART) and (choice := RENAMED_VALUES.get(name, {}).get(str(value))):
        return name, f"{value} was renamed to {choice}", f"set it to {choice}"
    if name in RENAMED_TO_GROUP and isinstance(value, str):
        member = RENAMED_TO_GROUP[name]
        choice = RENAMED_VALUES.get(f"{name}.{member}", {}).get(value, value)
        return name, f"it was renamed to {name}.{member}", f"set {name}: {{{member}: {choice}}}"
    return None


def _known_names(model: type[BaseModel]) -> list[str]:
    names = []
    for name, field in model.model_fields.items():
        names.append(name)
        for group in (field.annotation, *get_args(field.annotation)):
            if isinstance(group, type) and issubclass(group, BaseModel):
                names.extend(_known_names(group))
    return names


def _check_enough(available: int, wanted: list[int], iterations: int) -> None:
    if len(wanted) < iterations:
        raise ConfigurationError(
            "parameter prompts_per_iteration",
            f"it plans {len(wanted)} iterations, the run has {iterations}",
            "add a number for each iteration, or lower `iterations` in globals.yml (or SELFIE_ITERATIONS)",
        )
    if sum(wanted[:iterations]) > available:
        raise DataError(
            "prompts",
            f"{iterations} iterations need {sum(wanted[:iterations])} prompts, there are {available}",
            "bring more prompts, or lower prompts_per_iteration",
        )
