"""Nodes of the reporting pipeline."""

from typing import Any

from plotly.graph_objects import Figure

from selfie.models.checkpoint import Checkpoint
from selfie.reporting.figures import progress_figure
from selfie.reporting.report import html_report, markdown_report
from selfie.reporting.summary import policy_name, summary_of

STEP_VERSIONS = {
    "summarise": 4,
    "plot_progress": 2,
    "write_report": 3,
    "write_html": 3,
}

KINDS = ("heldout", "evaluation", "labels", "diagnostics", "style_guide", "drift", "capabilities")
"""Of metrics; where two have the same one (``n_pairs`` is the training pairs'), the later kind's counts."""


def summarise(
    experiment: str, initial_model: Checkpoint, timings: dict[str, Any], **results: dict[str, Any]
) -> dict[str, Any]:
    """One table of all policies; ``results``: NAMESPACE_evaluation, NAMESPACE_labels …, in their order."""
    namespaces = [name.removesuffix("_evaluation") for name in results if name.endswith("_evaluation")]
    metrics = {
        namespace: {name: value for kind in KINDS for name, value in results.get(f"{namespace}_{kind}", {}).items()}
        for namespace in namespaces
    }
    return summary_of(experiment, initial_model.name, metrics, timings)


def plot_progress(summary: dict[str, Any]) -> Figure:
    """Win rate, label accuracy and length by iteration."""
    return progress_figure(summary)


def write_report(summary: dict[str, Any], seed: int, **sections: dict[str, Any]) -> str:
    """The run as Markdown, with answers of the last policy beside the initial model's."""
    return markdown_report(summary, _by_policy(sections), seed)


def write_html(summary: dict[str, Any], seed: int, **sections: dict[str, Any]) -> str:
    """The run on a page of its own, with all policies' answers; ``sections``: namespace → its part of the report."""
    return html_report(summary, _by_policy(sections), seed)


def _by_policy(sections: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {policy_name(namespace): section for namespace, section in sections.items()}
