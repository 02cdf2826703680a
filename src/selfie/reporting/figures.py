"""Plotly figures."""

from typing import Any

from plotly.graph_objects import Figure, Scatter
from plotly.subplots import make_subplots

BLUE, ORANGE, GREY = "#2563eb", "#ea580c", "#6b7280"


def progress_figure(summary: dict[str, Any]) -> Figure:
    """Three panels over the policies: win rate with its interval, labels and detector, length of the answers."""
    rows = summary["iterations"]
    names = [row["name"] for row in rows]
    figure = make_subplots(
        rows=1,
        cols=3,
        subplot_titles=("Win rate over the initial model (%)", "Self-made labels", "Length of answers (characters)"),
    )
    figure.add_trace(_line(rows, "win_rate", "win rate", BLUE, interval="win_rate_ci"), row=1, col=1)
    figure.add_trace(_line(rows, "length_controlled_win_rate", "length-controlled", ORANGE, dash="dot"), row=1, col=1)
    figure.add_hline(y=50, line={"color": GREY, "dash": "dash"}, row=1, col=1)
    figure.add_trace(_line(rows, "label_accuracy", "label accuracy", BLUE), row=1, col=2)
    figure.add_trace(_line(rows, "noise_precision", "flagged pairs that are wrong", ORANGE), row=1, col=2)
    figure.add_trace(_line(rows, "noise_base_error", "all pairs that are wrong", GREY, dash="dash"), row=1, col=2)
    figure.add_trace(_line(rows, "avg_length", "mean length", BLUE), row=1, col=3)
    for column in (1, 2, 3):
        figure.update_xaxes(categoryorder="array", categoryarray=names, row=1, col=column)
    figure.update_yaxes(range=[0, 1], row=1, col=2)
    figure.update_yaxes(rangemode="tozero", row=1, col=3)
    figure.update_layout(
        title=f"{summary['experiment']}: every iteration against the initial model",
        template="plotly_white",
        legend={"orientation": "h", "y": -0.15},
        height=460,
        margin={"t": 90},
    )
    return figure


def _line(
    rows: list[dict[str, Any]], key: str, name: str, colour: str, interval: str | None = None, dash: str = "solid"
) -> Scatter:
    shown = [row for row in rows if row[key] is not None]
    error = None
    if interval:
        error = {
            "type": "data",
            "array": [row[interval][1] - row[key] for row in shown],
            "arrayminus": [row[key] - row[interval][0] for row in shown],
        }
    return Scatter(
        x=[row["name"] for row in shown],
        y=[row[key] for row in shown],
        name=name,
        mode="lines+markers",
        line={"color": colour, "dash": dash},
        error_y=error,
    )
