"""Nodes of the reporting pipeline."""

from typing import Any

from plotly.graph_objects import Figure

from selfie.checkpoints import Checkpoint
from selfie.evaluation.annotate import Record
from selfie.reporting.figures import progress_figure
from selfie.reporting.report import markdown_report
from selfie.reporting.summary import summary_of


def summarise(
    experiment: str, initial_model: Checkpoint, timings: dict[str, Any], **results: dict[str, Any]
) -> dict[str, Any]:
    """One table of all policies; ``results`` are ROOM_evaluation and ROOM_labels in the order of the rooms."""
    rooms = [name.removesuffix("_evaluation") for name in results if name.endswith("_evaluation")]
    metrics = {room: {**results[f"{room}_evaluation"], **results.get(f"{room}_labels", {})} for room in rooms}
    return summary_of(experiment, initial_model.source, metrics, timings)


def plot_progress(summary: dict[str, Any]) -> Figure:
    """Win rate, label accuracy and length by iteration."""
    return progress_figure(summary)


def write_report(summary: dict[str, Any], final_annotations: list[Record]) -> str:
    """The run on a page, with answers of the last policy beside the initial model's."""
    return markdown_report(summary, final_annotations)
