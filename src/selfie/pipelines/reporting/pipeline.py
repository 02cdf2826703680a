"""All iterations' metrics → summary, plots, report."""

from kedro.pipeline import Node, Pipeline

from selfie.pipelines.reporting.nodes import plot_progress, summarise, write_html, write_report


def create_pipeline(rooms: list[str], heldout: bool) -> Pipeline:
    """``rooms``: the namespaces whose policies are compared, in order; ``heldout``: judged on held-out pairs too."""
    evaluations = {f"{room}_evaluation": f"{room}.evaluation" for room in rooms}
    diagnostics = {f"{room}_diagnostics": f"{room}.diagnostics" for room in rooms}
    tuned = [room for room in rooms if room != "initial"]
    labels = {f"{room}_labels": f"{room}.labels" for room in tuned}
    judged = {f"{room}_heldout": f"{room}.heldout" for room in tuned if heldout}
    sections = {room: f"{room}.section" for room in tuned}
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
                    **diagnostics,
                    **judged,
                },
                outputs="summary",
                name="summarise",
            ),
            Node(plot_progress, inputs="summary", outputs="progress_plot", name="plot_progress"),
            Node(write_report, inputs={"summary": "summary", **sections}, outputs="report", name="write_report"),
            Node(write_html, inputs={"summary": "summary", **sections}, outputs="html_report", name="write_html"),
        ],
        tags="reporting",
    )
