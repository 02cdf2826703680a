"""The model card: what a policy is, what it was made from, how it was measured, where it fails."""

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

import selfie
from selfie.config.export import ExportParameters
from selfie.errors import ModelError
from selfie.export.base_model import BaseModel
from selfie.reporting.report import NOTES
from selfie.reporting.tables import columns_for, markdown_table, number
from selfie.storage.provenance import Manifest

TAGS = ["selfie", "preference-optimization", "dpo", "spa", "arxiv:2406.04412"]
JUDGES = {
    "implicit_reward": "the implicit reward of the policy before it, against the initial model (SPA)",
    "prompted_policy": "the policy before it, asked which of two responses is better",
    "reward_model": "a reward model",
    "gold": "the gold annotator, as an upper bound",
}
ANNOTATORS = {
    "gold": "the gold annotator, a rule that stands for a human",
    "openai_api": "a model behind an API",
    "prompted_model": "a local model, asked which of two answers is better",
    "reward_model": "a reward model",
    "none": "nobody: the answers were written for other tools",
}
NO_RESULT = ("batch_tokens", "shard_rows")  # parameters that say how the work is done
UNSHOWN = ("gold.", "judging.question.", "precision.")
_templates = Environment(
    loader=PackageLoader("selfie.export"), undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True
)


def model_card(
    name: str,
    policies: Mapping[str, str],
    base: BaseModel,
    export: ExportParameters,
    summary: dict[str, Any],
    rows: Mapping[str, int],
    manifests: Mapping[str, Manifest],
) -> str:
    """The card as Markdown with YAML front matter, in the Hugging Face hub's format.

    Args:
        name: what the model is called.
        policies: namespace → policy, in order, up to the exported one.
        base: what is known of the initial model.
        export: dtype, extrapolation, GGUF type.
        summary: as :func:`selfie.reporting.summary.summary_of` makes it.
        rows: dataset → how many rows it has: prompts, pairs, answers to the evaluation prompts.
        manifests: dataset → its version and what it was made from.

    Raises:
        ModelError: one of them was made from other versions of the rest than are there now.
    """
    check_lineage(manifests)
    last, policy = list(policies.items())[-1]
    results = [row for row in summary["iterations"] if row["name"] in ("initial", *policies.values())]
    by_name = {row["name"]: row for row in results}
    evaluation = _parameters(manifests[f"{last}.evaluation"])
    text = _templates.get_template("model_card.md.j2").render(
        metadata=_metadata(base).to_yaml(),
        name=name,
        policy=policy,
        base=base,
        export=export,
        iterations=len(policies) - 1,
        data=_data_table(policies, rows, by_name),
        judge=_judge(policies, manifests),
        parameters=_parameter_table(policies, manifests),
        results=_result_table(results),
        notes=NOTES["results"],
        annotator=ANNOTATORS[evaluation["evaluation.annotator"]],
        evaluation=evaluation,
        answers=rows[f"{last}.outputs"],
        drift=by_name[policy]["drift_reasons"],
        lineage=markdown_table(["artefact", "version", "made from"], _lineage(manifests)),
        versions={"selfie": selfie.__version__, **{name: version(name) for name in ("transformers", "torch")}},
    )
    return ModelCard(text).content


def check_lineage(manifests: Mapping[str, Manifest]) -> None:
    """Raises ModelError where an artefact was made from another version of one of the others."""
    for name, manifest in manifests.items():
        if manifest["made_from"] is None:
            problem = "nothing is recorded of how it was made: a `kedro run --fresh` was cut short"
            raise ModelError(name, problem, "run `kedro run`, then export again")
        for source, used in manifest["made_from"]["inputs"].items():
            if source in manifests and manifests[source]["version"] != used:
                problem = f"it was made from another version of {source} than is there now"
                raise ModelError(name, problem, "run `kedro run`, then export again")


def _metadata(base: BaseModel) -> ModelCardData:
    known: dict[str, Any] = {"language": base.languages, "license": base.license, "base_model": base.repository}
    if base.repository:
        known["base_model_relation"] = "finetune"
    known = {key: value for key, value in known.items() if value}
    return ModelCardData(**known, library_name="transformers", pipeline_tag="text-generation", tags=TAGS)


def _data_table(policies: Mapping[str, str], rows: Mapping[str, int], results: dict[str, Any]) -> str:
    header = ["policy", "prompts without labels", "pairs", "labels that agree with the gold annotator"]
    cells = [
        [
            policy,
            str(rows.get(f"{namespace}.prompts", "–")),
            str(rows[f"{namespace}.pairs"]),
            number(results[policy]["label_accuracy"], 3),
        ]
        for namespace, policy in policies.items()
    ]
    return markdown_table(header, cells)


def _judge(policies: Mapping[str, str], manifests: Mapping[str, Manifest]) -> str:
    names = [_parameters(manifests[f"{namespace}.pairs"]).get("judging.judge") for namespace in policies]
    return JUDGES.get(str(names[-1]), f"the function `{names[-1]}`")


def _result_table(results: list[dict[str, Any]]) -> str:
    columns = {title: cell for title, cell in columns_for(results).items() if title != "minutes"}
    return markdown_table(list(columns), [[cell(row) for cell in columns.values()] for row in results])


def _parameter_table(policies: Mapping[str, str], manifests: Mapping[str, Manifest]) -> str:
    """What each policy was sampled for, judged and trained with, as recorded when it was made."""
    columns = []
    for namespace, policy in policies.items():
        parts = [
            manifests[name] for name in (f"{namespace}.responses", f"{namespace}.pairs", policy) if name in manifests
        ]
        merged = {name: value for part in parts for name, value in _parameters(part).items()}
        own = "seeding." if namespace == "seeding" else "training."
        columns.append({name.removeprefix(own): value for name, value in merged.items()})
    names = dict.fromkeys(name for column in columns for name in column)
    shown = [n for n in names if n.rpartition(".")[2] not in NO_RESULT and not n.startswith(UNSHOWN)]
    cells = [[name, *(_cell(column.get(name)) for column in columns)] for name in sorted(shown)]
    return markdown_table(["parameter", *policies.values()], cells)


def _parameters(manifest: Manifest) -> dict[str, Any]:
    made_from = manifest["made_from"]
    return made_from["parameters"] if made_from else {}


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    return "–" if value is None else " ".join(str(value).replace("|", r"\|").split())


def _lineage(manifests: Mapping[str, Manifest]) -> Iterator[list[str]]:
    for name, manifest in manifests.items():
        sources = (manifest["made_from"] or {"inputs": {}})["inputs"]
        yield [
            name,
            f"`{manifest['version']}`",
            ", ".join(f"{source} `{used}`" for source, used in sources.items()),
        ]
