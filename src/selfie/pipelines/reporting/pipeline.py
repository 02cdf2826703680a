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
    found = {
        f"{namespace}_{kind}": f"{namespace}.{kind}"
        for namespace in namespaces
        for kind in ("style_guide", "drift", "capabilities")
    }
    shown = {"summary": "summary", "seed": "params:seed", **{name: f"{name}.section" for name in tuned}}
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
                    **found,
                },
                outputs="summary",
                name="summarise",
            ),
            Node(plot_progress, inputs="summary", outputs="progress_plot", name="plot_progress"),
            Node(write_report, inputs=shown, outputs="report", name="write_report"),
            Node(write_html, inputs=shown, outputs="html_report", name="write_html"),
        ],
        tags="reporting",
    )
