"""Plotly figures of a whole run: every policy a point, with its 95% interval where there is one."""

from dataclasses import dataclass, field
from typing import Any

from plotly.graph_objects import Figure, Scatter
from plotly.subplots import make_subplots

BLUE, ORANGE, GREEN, GREY = "#2563eb", "#c2410c", "#15803d", "#6b7280"


@dataclass(frozen=True)
class Line:
    """One metric of the summary."""

    key: str
    name: str
    colour: str
    dash: str = "solid"


@dataclass(frozen=True)
class Panel:
    """What shares a vertical axis; ``level`` is the value that says nothing."""

    title: str
    lines: tuple[Line, ...]
    axis: dict[str, Any] = field(default_factory=dict)
    level: float | None = None


FRACTION = {"range": [-0.02, 1.02]}
PROGRESS = (
    Panel("Answers that follow the guide (share)", (Line("guide_share", "whole guide", GREEN),), FRACTION),
    Panel(
        "Win rate over the initial model (%)",
        (
            Line("win_rate", "win rate", BLUE),
            Line("length_controlled_win_rate", "length-controlled", ORANGE, "dot"),
        ),
        {"range": [-2, 102]},
        level=50,
    ),
    Panel(
        "Self-made labels (share)",
        (
            Line("label_accuracy", "labels right", BLUE),
            Line("heldout_accuracy", "held-out pairs right", GREEN),
            Line("noise_precision", "flagged pairs wrong", ORANGE),
            Line("noise_base_error", "all pairs wrong", GREY, "dash"),
        ),
        FRACTION,
        level=0.5,
    ),
    Panel("Length of answers (characters)", (Line("avg_length", "mean length", BLUE),), {"rangemode": "tozero"}),
)
DIAGNOSTICS = (
    Panel(
        "Calibration error of the labels",
        (Line("ece", "measured", BLUE), Line("ece_by_chance", "reached by chance (95%)", GREY, "dash")),
        {"rangemode": "tozero"},
    ),
    Panel(
        "Labels and length",
        (
            Line("longer_chosen", "longer response chosen (share)", BLUE),
            Line("length_margin_correlation", "length–margin correlation", ORANGE, "dot"),
        ),
    ),
    Panel("Labels flipped by the next policy (share)", (Line("flip_rate", "flipped", BLUE),), FRACTION),
    Panel(
        "KL of the labeller from initial (nats)",
        (Line("kl_from_initial", "KL", BLUE),),
        level=0,
    ),
    Panel(
        "Diversity of answers (share)",
        (
            Line("distinct_1", "distinct words", BLUE),
            Line("distinct_2", "distinct word pairs", GREEN),
            Line("repetition", "repeated 4-grams", ORANGE, "dot"),
        ),
        FRACTION,
    ),
    Panel(
        "Sense of the answers (share)",
        (Line("on_topic", "on topic", BLUE), Line("truncated", "cut by the token limit", ORANGE, "dot")),
        FRACTION,
    ),
    Panel(
        "Perplexity of the answers over the initial model's",
        (Line("perplexity_ratio", "ratio", BLUE),),
        {"rangemode": "tozero"},
        level=1,
    ),
)


def progress_figure(summary: dict[str, Any]) -> Figure:
    """Panels over the policies: style guide where there is one, win rate, labels and detector, length of answers."""
    rows = _rows(summary)
    panels = [panel for panel in PROGRESS if _has_data(panel, rows)]
    figure = make_subplots(rows=1, cols=len(panels), subplot_titles=[panel.title for panel in panels])
    for column, panel in enumerate(panels, start=1):
        _draw(figure, panel, rows, row=1, col=column)
    figure.update_layout(
        title=f"{summary['experiment']}: every iteration against the initial model",
        template="plotly_white",
        legend={"orientation": "h", "y": -0.15},
        height=460,
        margin={"t": 90},
    )
    return figure


def panel_figures(summary: dict[str, Any]) -> list[Figure]:
    """Every panel that has something to show, as a figure of its own that is readable on a phone."""
    rows = _rows(summary)
    figures = []
    for panel in (*PROGRESS, *DIAGNOSTICS):
        if _has_data(panel, rows):
            figure = Figure()
            _draw(figure, panel, rows)
            figures.append(narrow(figure, panel.title))
    return figures


def narrow(figure: Figure, title: str) -> Figure:
    """The layout of a figure that has to fit a phone."""
    return figure.update_layout(
        title={"text": title, "font": {"size": 14}, "x": 0.02, "xanchor": "left"},
        template="plotly_white",
        showlegend=True,
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0, "font": {"size": 11}},
        height=340,
        margin={"t": 48, "l": 48, "r": 16, "b": 94},
    )


def _rows(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """The summary's, with the style guide's share beside the other figures."""
    guides = [row["style_guide"] or {} for row in summary["iterations"]]
    return [
        {**row, "guide_share": guide.get("share"), "guide_share_ci": guide.get("ci")}
        for row, guide in zip(summary["iterations"], guides, strict=True)
    ]


def _has_data(panel: Panel, rows: list[dict[str, Any]]) -> bool:
    return any(row.get(line.key) is not None for row in rows for line in panel.lines)


def _draw(figure: Figure, panel: Panel, rows: list[dict[str, Any]], **cell: int) -> None:
    for line in panel.lines:
        shown = [row for row in rows if row.get(line.key) is not None]
        if shown:
            figure.add_trace(_trace(shown, line), **cell)
    if panel.level is not None:
        figure.add_hline(y=panel.level, line={"color": GREY, "dash": "dash", "width": 1}, **cell)
    names = [row["name"] for row in rows if any(row.get(line.key) is not None for line in panel.lines)]
    figure.update_xaxes(
        type="category", categoryorder="array", categoryarray=names, range=[-0.3, len(names) - 0.7], **cell
    )
    figure.update_yaxes(**panel.axis, **cell)


def _trace(rows: list[dict[str, Any]], line: Line) -> Scatter:
    bounds = [row.get(f"{line.key}_ci") or [row[line.key]] * 2 for row in rows]
    return Scatter(
        x=[row["name"] for row in rows],
        y=[row[line.key] for row in rows],
        name=line.name,
        mode="lines+markers",
        line={"color": line.colour, "dash": line.dash},
        error_y={
            "type": "data",
            "array": [high - row[line.key] for (_, high), row in zip(bounds, rows, strict=True)],
            "arrayminus": [row[line.key] - low for (low, _), row in zip(bounds, rows, strict=True)],
            "thickness": 1,
            "visible": any(low < high for low, high in bounds),
        },
    )
