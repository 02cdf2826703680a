"""The report without a browser: the Markdown twin, and what the page is made of."""

import json
import re

from selfie.reporting.draws import draw_answers
from selfie.reporting.report import html_report, markdown_report
from selfie.reporting.summary import summary_of
from selfie.reporting.tables import LABELS, RESULTS, columns_for, guide_lines, lines


def table(markdown: str, first: str) -> dict[str, list[str]]:
    """A Markdown table's rows by their first cell; ``first`` begins its header."""
    rows = markdown[markdown.index(f"| {first}") :].split("\n\n", maxsplit=1)[0].splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert len({len(row) for row in cells}) == 1, "ragged"
    return {row[0]: row[1:] for row in cells}


def test_markdown_tables(summary, sections):
    page = markdown_report(summary, sections, seed=0)
    results = table(page, "policy |")
    assert results["policy"][:2] == ["follows the guide % [95%]", "win rate % [95%]"]
    assert results["policy_0"][:4] == ["50.0 [10.0, 50.0]", "72.2 [60.0, 81.0]", "50.0", "210"]
    assert (results["policy"][-1], results["policy_0"][-1], results["policy_1"][-1]) == (
        "drifted",
        "–",
        "on topic 0.70",
    )
    diagnostics = table(page, "|")
    assert diagnostics[""] == ["initial", "policy_0", "policy_1"]
    assert diagnostics["flipped by the next policy"] == ["–", "–", "0.100 [0.020, 0.300]"]
    assert diagnostics["follows the whole guide, %"][2] == "50.0 [10.0, 50.0]"
    assert diagnostics["… more than the initial model"] == ["–", "25.0 [12.5, 40.0]", "25.0 [12.5, 40.0]"]
    assert diagnostics["plain prose"] == ["50.0", "50.0", "50.0"]
    assert "… more than the seed policy" not in diagnostics
    assert "wrong ones flagged" not in diagnostics  # no policy has it


def test_markdown_quotes_untrusted_answers(summary, sections):
    page = markdown_report(summary, sections, seed=0)
    assert "&lt;/script&gt;&lt;script&gt;" in page
    assert not re.search(r"<(script|img)", page.split("## Answers")[1])
    assert "(preferred: policy)" in page


def test_markdown_without_any_policy(summary):
    assert "## Answers" not in markdown_report(summary, {}, seed=0)


def test_the_page_embeds_its_data_without_a_closing_tag(summary, sections):
    page = html_report(summary, sections, seed=0)
    (embedded,) = re.findall(r'<script type="application/json" id="report-data">(.*?)</script>', page, re.DOTALL)
    assert "<" not in embedded
    assert json.loads(embedded)["sections"][1]["answers"][0]["policy"].startswith("</script>")


def test_the_page_asks_the_network_for_nothing(summary, sections):
    page = html_report(summary, sections, seed=0)
    assert not re.search(r"<(script|link|img|iframe)\b[^>]*\b(src|href)=", page)
    assert "default-src 'none'" in page


def test_lines_leave_out_what_nobody_has(summary):
    rows = summary["iterations"]
    titles = [title for title, _ in lines((*RESULTS, *LABELS), rows)]
    assert "held-out accuracy" not in titles
    rows = [{**row, "heldout_accuracy": 0.5, "heldout_accuracy_ci": [0.25, 0.75]} for row in rows]
    assert ("held-out accuracy", [("0.500", "0.250, 0.750")] * 3) in lines(LABELS, rows)


def test_without_a_style_guide_or_a_drifted_policy_there_are_no_such_columns():
    rows = summary_of("test", "model", {"initial": {}, "seeding": {"drifted": False, "drift_reasons": {}}}, {})
    titles = list(columns_for(rows["iterations"]))
    assert titles[:2] == ["policy", "win rate % [95%]"]
    assert "drifted" not in titles
    assert guide_lines(rows["iterations"]) == []


def test_parts_of_the_prompts_have_lines_of_their_own():
    """Behind those of all prompts: a share and its change; a policy from before there were parts has a dash."""
    part = {"share": 0.25, "ci": [0.125, 0.5], "change_from_initial": 0.125, "change_from_initial_ci": [0.0, 0.25]}
    whole = {"share": 0.5, "ci": [0.25, 0.75], "checks": {"no_commas": 0.5}}
    rows = [{"style_guide": whole}, {"style_guide": {**whole, "parts": {"unseen_kinds": part}}}]
    assert guide_lines(rows)[1:] == [
        ("follows the guide, unseen kinds, %", [("–", ""), ("25.0", "12.5, 50.0")]),
        ("… more than the initial model", [("–", ""), ("12.5", "0.0, 25.0")]),
        ("no commas", [("50.0", ""), ("50.0", "")]),
    ]


def test_both_reports_lead_with_answers_and_their_checks(summary, sections):
    markdown, page = (make(summary, sections, seed=0) for make in (markdown_report, html_report))
    lead = markdown[: markdown.index("## Every policy")]
    assert lead.count("> *initial:* Initial answer") == 3
    assert lead.count("> *policy_1:*") == 3
    assert lead.count("✓ plain prose · ✓ on topic") == 4  # the initial answers, and the one without a "<"
    assert lead.count("✗ plain prose · ✓ on topic") == 2
    lead = page[page.index('id="lead"') : page.index("<h2>Every policy")]
    assert (lead.count("✗ plain prose"), lead.count("✓ plain prose"), lead.count("✓ on topic")) == (2, 4, 6)
    assert "&lt;/script&gt;" in lead
    for report in (markdown, page):
        assert "policy_1 drifted: on topic 0.70." in report


def test_answers_are_drawn_by_the_seed():
    """Three to lead with and twenty to read blind, in an order that neither side always has; no answer twice."""
    answers = [
        {
            "instruction": f"i{n}",
            "initial": f"a{n}",
            "policy": f"b{n}",
            "initial_checks": {"x": n < 20},
            "policy_checks": {"x": True},
        }
        for n in range(40)
    ]
    lead, blind = draw_answers(answers, seed=1)
    assert (len(lead), len(blind)) == (3, 20)
    assert len({answer["instruction"] for answer in (*lead, *blind)}) == 23
    for hidden in blind:
        number = hidden["instruction"][1:]
        assert hidden["texts"] == [{"initial": "a", "policy": "b"}[side] + number for side in hidden["sides"]]
        assert dict(zip(hidden["sides"], hidden["follows"], strict=True)) == {
            "initial": int(number) < 20,
            "policy": True,
        }
    assert {tuple(hidden["sides"]) for hidden in blind} == {("initial", "policy"), ("policy", "initial")}
    assert draw_answers(answers, seed=1) == (lead, blind)
    assert draw_answers(answers, seed=2) != (lead, blind)
    assert draw_answers(answers[:3], seed=1)[1] == []
