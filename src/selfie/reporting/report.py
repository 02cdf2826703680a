"""The run on a page: ``report.html``, which needs no network, and its Markdown twin for papers."""

import json
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from plotly.offline import get_plotlyjs

from selfie.reporting.draws import draw_answers
from selfie.reporting.figures import panel_figures
from selfie.reporting.tables import (
    CAPABILITIES,
    LABELS,
    RESULTS,
    SECONDS_PER_MINUTE,
    columns_for,
    drift_reasons,
    guide_lines,
    lines,
    minutes,
    number,
    readable,
)

MARKDOWN_ANSWERS = 6
NOTES = {
    "results": "Win rates are against the initial model's answers, in percent, over the evaluation prompts; diversity "
    "is that of these answers, and falls with their length. An answer *follows the guide* if it passes every check of "
    "the style guide, or obeys its prompt's exact instruction. *On topic* is the share of answers that the initial "
    "model finds likelier after their own question than after another one; *perplexity* is that of the answers under "
    "the initial model, over that of its own answers; *cut* answers ended at the token limit. A policy has *drifted* "
    "that wins with answers that make less sense.",
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


def html_report(summary: dict[str, Any], sections: dict[str, dict[str, Any]], seed: int) -> str:
    """A self-contained page: answers side by side, table, curves, a browser of answers, pairs to read blind, labels.

    Args:
        summary: as :func:`selfie.reporting.summary.summary_of` makes it.
        sections: policy → as :func:`selfie.reporting.sections.section_of` makes it. What models wrote is embedded as
            JSON without ``<`` and shown as text.
        seed: the run's; draws the answers that it leads with and those to read blind.
    """
    rows = summary["iterations"]
    last, lead, blind = _drawn(sections, seed)
    data = {
        "figures": [json.loads(figure.to_json()) for figure in panel_figures(summary)],
        "sections": [{"name": name, **section} for name, section in sections.items()],
        "blind": blind,
    }
    return _templates.get_template("report.html.j2").render(
        **_heading(summary),
        last=last,
        lead=lead,
        table={
            **({"Style guide": guide} if (guide := guide_lines(rows)) else {}),
            "Answers": lines(RESULTS, rows),
            "Labels": lines(LABELS, rows),
            **({"Alignment tax": tax} if (tax := lines(CAPABILITIES, rows)) else {}),
            "Cost": [("minutes", [(minutes(row), "") for row in rows])],
        },
        notes={name: text.replace("*", "") for name, text in NOTES.items()},
        has_labels=any(section["figures"] for section in sections.values()),
        data=data,
        plotly_js=get_plotlyjs(),
    )


def markdown_report(summary: dict[str, Any], sections: dict[str, dict[str, Any]], seed: int) -> str:
    """The tables, and some answers of the last policy; arguments as for :func:`html_report`."""
    rows = summary["iterations"]
    columns = columns_for(rows)
    last, lead, _ = _drawn(sections, seed)
    answers = [answer for section in list(sections.values())[-1:] for answer in section["answers"]]
    step = max(1, len(answers) // MARKDOWN_ANSWERS)
    return _templates.get_template("report.md.j2").render(
        **_heading(summary),
        last=last,
        lead=lead,
        columns=list(columns),
        rows=[[cell(row) for cell in columns.values()] for row in rows],
        diagnostics=[*guide_lines(rows), *lines((*RESULTS[3:], *LABELS[2:], *CAPABILITIES), rows)],
        notes=NOTES,
        answers=answers[::step][:MARKDOWN_ANSWERS],
    )


def _heading(summary: dict[str, Any]) -> dict[str, Any]:
    return {
        "summary": summary,
        "drifted": {row["name"]: drift_reasons(row) for row in summary["iterations"] if row["drifted"]},
        "minutes": number(summary["wall_seconds"] / SECONDS_PER_MINUTE, 1),
        "memory": number(summary["peak_rss_gib"], 2),
    }


def _drawn(sections: dict[str, dict[str, Any]], seed: int) -> tuple[str, list[dict[str, Any]], list[dict[str, Any]]]:
    """The last policy's name, answers of it to lead with, and answers of it to read blind."""
    last = next(reversed(sections), "")
    return last, *draw_answers(sections[last]["answers"] if sections else [], seed)


def _tick(check: str, passed: bool) -> str:
    return f"{'✓' if passed else '✗'} {readable(check)}"


def _quote(text: str) -> str:
    """Answers are untrusted text: one line, no HTML."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_templates.filters["quote"] = _quote
_templates.filters["tick"] = _tick
