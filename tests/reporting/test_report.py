"""The report without a browser: the Markdown twin, and what the page is made of."""

import json
import re

from selfie.reporting.report import html_report, markdown_report
from selfie.reporting.summary import summary_of
from selfie.reporting.tables import LABELS, RESULTS, lines


def table(markdown: str, first: str) -> dict[str, list[str]]:
    """A Markdown table's rows by their first cell; ``first`` begins its header."""
    rows = markdown[markdown.index(f"| {first}") :].split("\n\n", maxsplit=1)[0].splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert len({len(row) for row in cells}) == 1, "ragged"
    return {row[0]: row[1:] for row in cells}


def test_markdown_tables(summary, sections):
    page = markdown_report(summary, sections)
    results = table(page, "policy |")
    assert results["policy_0"][:3] == ["72.2 [60.0, 81.0]", "50.0", "210"]
    diagnostics = table(page, "|")
    assert diagnostics[""] == ["initial", "policy_0", "policy_1"]
    assert diagnostics["flipped by the next policy"] == ["–", "–", "0.100 [0.020, 0.300]"]
    assert "wrong ones flagged" not in diagnostics  # no policy has it


def test_markdown_quotes_untrusted_answers(summary, sections):
    page = markdown_report(summary, sections)
    assert "&lt;/script&gt;&lt;script&gt;" in page
    assert not re.search(r"<(script|img)", page.split("## Answers")[1])
    assert "(preferred: policy)" in page


def test_markdown_without_any_policy(summary):
    assert "## Answers" not in markdown_report(summary, {})


def test_the_page_embeds_its_data_without_a_closing_tag(summary, sections):
    page = html_report(summary, sections)
    (embedded,) = re.findall(r'<script type="application/json" id="report-data">(.*?)</script>', page, re.DOTALL)
    assert "<" not in embedded
    assert json.loads(embedded)["sections"][1]["answers"][0]["policy"].startswith("</script>")


def test_the_page_asks_the_network_for_nothing(summary, sections):
    page = html_report(summary, sections)
    assert not re.search(r"<(script|link|img|iframe)\b[^>]*\b(src|href)=", page)
    assert "default-src 'none'" in page


def test_lines_leave_out_what_nobody_has(summary):
    rows = summary["iterations"]
    titles = [title for title, _ in lines((*RESULTS, *LABELS), rows)]
    assert "held-out accuracy" not in titles
    rows = [{**row, "heldout_accuracy": 0.5, "heldout_accuracy_ci": [0.25, 0.75]} for row in rows]
    assert ("held-out accuracy", [("0.500", "0.250, 0.750")] * 3) in lines(LABELS, rows)


def test_timings_of_older_runs_are_read():
    """They say ``room`` where newer ones say ``namespace``."""
    timings = {
        "old": {"room": "iteration_1", "stage": "training", "seconds": 90.0, "peak_rss_gib": 1.0},
        "new": {"namespace": "iteration_1", "stage": "training", "seconds": 10.0, "peak_rss_gib": 1.0},
    }
    (policy,) = summary_of("test", "model", {"iteration_1": {}}, timings)["iterations"]
    assert policy["seconds"]["training"] == 100.0
