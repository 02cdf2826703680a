"""All iterations' metrics → summary, plots, report."""

from kedro.pipeline import Node, Pipeline

from selfie.pipelines.reporting.nodes import plot_progress, summarise, write_report


def create_pipeline(rooms: list[str]) -> Pipeline:
    """``rooms``: the namespaces whose policies are compared, in order."""
    evaluations = {f"{room}_evaluation": f"{room}.evaluation" for room in rooms}
    labels = {f"{room}_labels": f"{room}.labels" for room in rooms if room != "initial"}
    return Pipeline(
        [
            Node(
                summarise,
                inputs={
                    "experiment": "params:experiment",
                    "initial_model": "initial_model",
                    "timings": "timings",
                    **evaluations,
                    **labels,
                },
                outputs="summary",
                name="summarise",
            ),
            Node(plot_progress, inputs="summary", outputs="progress_plot", name="plot_progress"),
            Node(
                write_report,
                inputs=["summary", f"{rooms[-1]}.annotations"],
                outputs="report",
                name="write_report",
            ),
        ],
        tags="reporting",
    )
