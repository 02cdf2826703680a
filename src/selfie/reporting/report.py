"""The run on a page: ``report.html``, which needs no network, and its Markdown twin for papers."""

import json
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from plotly.offline import get_plotlyjs

from selfie.reporting.figures import panel_figures
from selfie.reporting.tables import COLUMNS, LABELS, RESULTS, SECONDS_PER_MINUTE, lines, minutes, number

MARKDOWN_ANSWERS = 6
NOTES = {
    "results": "Win rates are against the initial model's answers, in percent, over the evaluation prompts; diversity "
    "is that of these answers, and falls with their length.",
    "labels": "The labels of an iteration are given by the policy before it, and so is the KL (over its sampled "
    "responses). *Label accuracy* is against the gold annotator, over the pairs on which it has a preference. "
    "*Calibration error* is the mean distance between the judge's probability and the share of its labels that are "
    "right; a perfectly calibrated judge stays below the figure *by chance* in 95% of the cases. *Flagged wrong* is "
    "the share of pairs that the noise detector flagged whose label contradicts the gold annotator; *base error* is "
    "that share among all pairs it was asked about. *Flipped* labels are those that the policy trained on them would "
    "give the other way round.",
}
_templates = Environment(
    loader=PackageLoader("selfie.reporting"),
    autoescape=select_autoescape(["html.j2"]),
    undefined=StrictUndefined,
    keep_trailing_newline=True,
)


def html_report(summary: dict[str, Any], sections: dict[str, dict[str, Any]]) -> str:
    """A self-contained page: table, curves, labels, and a browser of answers side by side.

    Args:
        summary: as :func:`selfie.reporting.summary.summary_of` makes it.
        sections: policy → as :func:`selfie.reporting.sections.section_of` makes it. What models wrote is embedded as
            JSON without ``<`` and shown as text.
    """
    rows = summary["iterations"]
    data = {
        "figures": [json.loads(figure.to_json()) for figure in panel_figures(summary)],
        "sections": [{"name": name, **section} for name, section in sections.items()],
    }
    return _templates.get_template("report.html.j2").render(
        **_heading(summary),
        table={
            "Answers": lines(RESULTS, rows),
            "Labels": lines(LABELS, rows),
            "Cost": [("minutes", [(minutes(row), "") for row in rows])],
        },
        notes={name: text.replace("*", "") for name, text in NOTES.items()},
        has_labels=any(section["figures"] for section in sections.values()),
        data=data,
        plotly_js=get_plotlyjs(),
    )


def markdown_report(summary: dict[str, Any], sections: dict[str, dict[str, Any]]) -> str:
    """The tables, and some answers of the last policy; arguments as for :func:`html_report`."""
    rows = summary["iterations"]
    answers = [answer for section in list(sections.values())[-1:] for answer in section["answers"]]
    step = max(1, len(answers) // MARKDOWN_ANSWERS)
    return _templates.get_template("report.md.j2").render(
        **_heading(summary),
        columns=list(COLUMNS),
        rows=[[cell(row) for cell in COLUMNS.values()] for row in rows],
        diagnostics=lines((*RESULTS[3:], *LABELS[2:]), rows),
        notes=NOTES,
        answers=answers[::step][:MARKDOWN_ANSWERS],
    )


def _heading(summary: dict[str, Any]) -> dict[str, Any]:
    return {
        "summary": summary,
        "minutes": number(summary["wall_seconds"] / SECONDS_PER_MINUTE, 1),
        "memory": number(summary["peak_rss_gib"], 2),
    }


def _quote(text: str) -> str:
    """Answers are untrusted text: one line, no HTML."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_templates.filters["quote"] = _quote
