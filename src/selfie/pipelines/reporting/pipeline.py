"""All iterations' metrics → summary, plots, report."""

from kedro.pipeline import Node, Pipeline

from selfie.pipelines.reporting.nodes import plot_progress, summarise, write_html, write_report


def create_pipeline(namespaces: list[str], heldout: bool) -> Pipeline:
    """``namespaces``: those whose policies are compared, in order; ``heldout``: judged on held-out pairs too."""
    evaluations = {f"{namespace}_evaluation": f"{namespace}.evaluation" for namespace in namespaces}
    diagnostics = {f"{namespace}_diagnostics": f"{namespace}.diagnostics" for namespace in namespaces}
    tuned = [namespace for namespace in namespaces if namespace != "initial"]
    labels = {f"{namespace}_labels": f"{namespace}.labels" for namespace in tuned}
    judged = {f"{namespace}_heldout": f"{namespace}.heldout" for namespace in tuned if heldout}
    sections = {namespace: f"{namespace}.section" for namespace in tuned}
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
