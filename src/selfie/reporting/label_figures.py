"""Plotly figures of one iteration's labels."""

from collections.abc import Mapping, Sequence, Set
from typing import Any

from plotly.graph_objects import Box, Figure, Histogram, Scatter

from selfie.reporting.figures import BLUE, GREY, ORANGE, narrow

COUNTS_BELOW = -0.05  # where the reliability diagram writes the numbers of pairs


def reliability_figure(points: list[dict[str, Any]]) -> Figure:
    """Share of right labels over the judge's probability, from :func:`selfie.diagnostics.calibration.reliability`.

    Without points (there is no gold annotator) the figure says so.
    """
    figure = Figure()
    if not points:
        figure.add_annotation(text="needs a gold annotator", x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)
        return narrow(figure.update_xaxes(visible=False).update_yaxes(visible=False), "Reliability of the labels")
    figure.add_trace(
        Scatter(x=[0.5, 1], y=[0.5, 1], mode="lines", line={"color": GREY, "dash": "dash"}, name="perfectly calibrated")
    )
    figure.add_trace(
        Scatter(
            x=[point["predicted"] for point in points],
            y=[point["right"] for point in points],
            hovertemplate="probability %{x:.2f}: %{y:.2f} right<extra></extra>",
            mode="lines+markers",
            line={"color": BLUE},
            name="labels (below: pairs)",
            error_y={
                "type": "data",
                "array": [point["right_ci"][1] - point["right"] for point in points],
                "arrayminus": [point["right"] - point["right_ci"][0] for point in points],
                "thickness": 1,
            },
        )
    )
    figure.add_trace(
        Scatter(
            x=[point["predicted"] for point in points],
            y=[COUNTS_BELOW] * len(points),
            text=[str(point["n"]) for point in points],
            hoverinfo="skip",
            mode="text",
            textfont={"size": 11, "color": GREY},
            showlegend=False,
        )
    )
    figure.update_xaxes(title="probability that chosen is better", range=[0.48, 1.02])
    figure.update_yaxes(title="share right", range=[-0.1, 1.02])
    return narrow(figure, "Reliability of the labels")


def margins_figure(pairs: Sequence[Mapping[str, Any]], flagged: Set[int], wrong: Mapping[int, bool]) -> Figure:
    """The judge's margins of kept and flagged pairs; by right and wrong where a gold annotator knows.

    Args:
        pairs: ``pair`` and ``margin``.
        flagged: by the noise detector.
        wrong: pair → whether the gold annotator contradicts the label.
    """
    groups = {"right": BLUE, "wrong": ORANGE} if wrong else {"": BLUE}
    figure = Figure()
    for group, colour in groups.items():
        members = [pair for pair in pairs if not wrong or wrong.get(pair["pair"]) is (group == "wrong")]
        figure.add_trace(
            Box(
                x=["flagged" if pair["pair"] in flagged else "kept" for pair in members],
                y=[pair["margin"] for pair in members],
                name=f"{group} label".strip(),
                marker={"color": colour, "size": 4},
                boxpoints="all",
                jitter=0.4,
                pointpos=0,
            )
        )
    figure.update_layout(boxmode="group")
    figure.update_xaxes(categoryorder="array", categoryarray=["kept", "flagged"])
    figure.update_yaxes(title="margin of the judgment")
    return narrow(figure, "Margins by the detector's flag")


def lengths_figure(chosen: Sequence[int], rejected: Sequence[int]) -> Figure:
    """Lengths in tokens of chosen and rejected responses."""
    longest = max(*chosen, *rejected)
    bins = {"start": 0, "end": longest + 1, "size": max(1, longest // 24)}
    figure = Figure(
        [
            Histogram(x=list(lengths), xbins=bins, name=name, marker={"color": colour}, opacity=0.6)
            for name, lengths, colour in (("chosen", chosen, BLUE), ("rejected", rejected, ORANGE))
        ]
    )
    figure.update_layout(barmode="overlay")
    figure.update_xaxes(title="length (tokens)")
    figure.update_yaxes(title="pairs")
    return narrow(figure, "Lengths of chosen and rejected")
