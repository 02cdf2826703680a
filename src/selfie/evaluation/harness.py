"""Capability tests through lm-evaluation-harness (the extra ``capabilities``), on data that is at hand."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import torch
from datasets import Dataset

from selfie.errors import ConfigurationError
from selfie.models.checkpoint import Checkpoint
from selfie.models.precision import Arithmetic
from selfie.runtime.memory import free_memory, reuse_memory
from selfie.runtime.random_seeds import derive_seed

ANSWER_TOKENS = 16
_EXAMPLES = [
    {"question": "What is the capital of Germany?", "answers": ["Berlin"]},
    {"question": "How many wheels does a bicycle have?", "answers": ["2"]},
    {"question": "What is the opposite of big?", "answers": ["small"]},
    {"question": "What is 7 + 6?", "answers": ["13"]},
]
_SPLIT = {"test_split": "test"}
# Prompted and compared as lm-eval's own triviaqa.
QUESTIONS: dict[str, Any] = {
    **_SPLIT,
    "task": "questions",
    "output_type": "generate_until",
    "doc_to_text": "{{question}} Reply with the answer alone.",
    "doc_to_target": "answers",
    "num_fewshot": len(_EXAMPLES),
    "fewshot_config": {"sampler": "first_n", "samples": _EXAMPLES, "doc_to_target": "{{answers[0]}}"},
    "generation_kwargs": {"until": ["\n", ".", ","], "do_sample": False, "max_gen_toks": ANSWER_TOKENS},
    "filter_list": [
        {"name": "stripped", "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]},
    ],
    "metric_list": [{"metric": "exact_match", "ignore_case": True, "ignore_punctuation": True}],
}
NEUTRAL_TEXT: dict[str, Any] = {
    **_SPLIT,
    "task": "neutral_text",
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{text}}",
    "metric_list": [{"metric": "word_perplexity"}],
}


class Item(TypedDict):
    """One of a test's: ``response`` is the answer, or the log-prob of the text in nats.

    ``metrics``: name → (a, b), where the metric over all items is Σa / Σb: right ones of so many, or −log p and words.
    """

    item: int
    response: str | float
    metrics: dict[str, tuple[float, float]]


def check_harness(ifeval: bool) -> None:
    """Raises ConfigurationError where lm-eval, or with ``ifeval`` what IFEval's checkers need, is not installed."""
    where, remedy = "pipeline capabilities", "`make capabilities` installs it, or pip install 'selfie[capabilities]'"
    for package in ("lm_eval", *(("langdetect", "immutabledict", "nltk") if ifeval else ())):
        if importlib.util.find_spec(package) is None:
            raise ConfigurationError(where, f"the package {package} is not installed", remedy)
    if not ifeval:
        return
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab/english")
    except LookupError as error:
        raise ConfigurationError(
            where,
            "NLTK's data punkt_tab is not there, by which IFEval's checkers count sentences",
            "python -m nltk.downloader punkt_tab; without a network, unpack punkt_tab.zip of github.com/nltk/nltk_data "
            "into ~/nltk_data/tokenizers/ (or tokenizers/ in a folder that NLTK_DATA names)",
        ) from error


def ifeval_task(max_new_tokens: int) -> dict[str, Any]:
    """lm-eval's own task and checkers, as it ships them, but for the length of answers."""
    import langdetect

    langdetect.DetectorFactory.seed = 0  # else a checker of the language draws anew each time
    settings = {"until": [], "do_sample": False, "temperature": 0.0, "max_gen_toks": max_new_tokens}
    return {"task": "ifeval", "test_split": "train", "generation_kwargs": settings}


def run_test(
    task: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    policy: Checkpoint,
    arithmetic: Arithmetic,
    max_items: int | None,
    batch_tokens: int,
    max_length: int,
    seed: int,
) -> list[Item]:
    """One test of one policy; greedy, and with the chat template where something is asked.

    Args:
        task: lm-eval's configuration of a task, or changes to one that it ships.
        rows: the items.
        policy: whose test it is.
        arithmetic: of the model; log-softmax and sums are float32 in any.
        max_items: the first ones; None for all.
        batch_tokens: prompts and answers of a batch, where a prompt has ``max_length`` tokens.
        max_length: of a prompt.
        seed: the run's.

    Raises:
        ConfigurationError: an answer is longer than the model's context.
    """
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    asks = task.get("output_type") != "loglikelihood_rolling"
    tokens = task["generation_kwargs"]["max_gen_toks"] if asks else 0
    shipped = Path(lm_eval.__file__).parent / "tasks" / "ifeval"
    data = {task["test_split"]: Dataset.from_list([dict(row) for row in rows])}
    # Changes are laid over the task that lm-eval ships in a group only; alone they would be the whole of it.
    whole = {**task, "custom_dataset": lambda **_: data}
    draw = derive_seed(seed, "capabilities") % 2**32  # numpy's takes no more
    reuse_memory()
    with arithmetic.products():
        model = HFLM(
            policy.load_model(arithmetic.dtype),
            tokenizer=policy.load_tokenizer(),
            softmax_dtype=torch.float32,
            batch_size=max(1, batch_tokens // (max_length + tokens)),
        )
        if tokens >= model.max_length:
            problem = f"an answer of {tokens} tokens does not fit into the model's context of {model.max_length}"
            raise ConfigurationError("parameter capabilities.max_new_tokens", problem, "set a smaller number")
        results = lm_eval.simple_evaluate(
            model,
            tasks=[whole if "output_type" in task else {"group": "changed", "task": [whole]}],
            limit=max_items,
            bootstrap_iters=0,
            apply_chat_template=asks,
            **{f"{source}_seed": draw for source in ("random", "numpy_random", "torch_random", "fewshot_random")},
            task_manager=TaskManager(include_defaults=False, include_path=shipped),
        )
    del model
    free_memory()
    (samples,) = results["samples"].values()
    return [_item(sample) for sample in samples]


def _item(sample: Mapping[str, Any]) -> Item:
    (response,) = sample["filtered_resps"]
    metrics = {name: _as_ratio(sample[name]) for name in sample["metrics"]}
    return {"item": sample["doc_id"], "response": response, "metrics": metrics}


def _as_ratio(value: Any) -> tuple[float, float]:
    """Of lm-eval's value of one item: right or not, one verdict an instruction, or (log-prob, words)."""
    if isinstance(value, tuple):
        return -value[0], value[1]
    verdicts = value if isinstance(value, list) else [value]
    return float(sum(verdicts)), len(verdicts)
