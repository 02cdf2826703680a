"""``report.html`` as its reader meets it: in a real browser, on a phone, with answers that attack the page."""

import pytest

from selfie.reporting.report import html_report

PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def report(tmp_path_factory, summary, sections):
    """The page's URL."""
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(html_report(summary, sections, seed=0), encoding="utf-8")
    return file.as_uri()


@pytest.fixture
def page(browser, report):
    """The report, opened on a phone; fails where the console saw an error or a request left the page."""
    context = browser.new_context(viewport=PHONE)
    opened = context.new_page()
    problems: list[str] = []
    opened.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("request", lambda request: problems.append(request.url) if request.url != report else None)
    opened.goto(report)
    opened.wait_for_selector("#labels-figures .main-svg")
    yield opened
    context.close()
    assert problems == []


def texts(page, *ids):
    return [page.locator(f"#{name}").inner_text() for name in ids]


def test_it_shows_table_curves_and_labels(page):
    table = page.locator("table").inner_text()
    assert "policy_1" in table
    assert "72.2\n60.0, 81.0" in table
    assert page.locator("#curves .main-svg .cartesianlayer").count() == 10
    titles = page.locator("#labels-figures .gtitle").all_text_contents()
    assert titles == ["Reliability of the labels", "Margins by the detector's flag", "Lengths of chosen and rejected"]


def test_every_figure_draws_its_points(page):
    """Each curve has a mark that is really inside the visible figure."""
    for number in range(10):
        figure = page.locator("#curves > div").nth(number)
        box, mark = figure.bounding_box(), figure.locator("path.point").first.bounding_box()
        assert box["x"] <= mark["x"] <= box["x"] + box["width"]
        assert box["y"] <= mark["y"] <= box["y"] + box["height"]


def test_the_browser_of_answers_steps_filters_and_changes_the_policy(page):
    assert texts(page, "instruction", "position")[1] == "1 of 3"
    assert page.locator("#previous").is_disabled()
    page.click("#next")
    assert texts(page, "initial-text", "position") == ["Initial answer 1", "2 of 3"]
    assert "preferred" in page.locator("#initial-title").inner_text()
    page.click("#previous")
    assert texts(page, "initial-text") == ["Initial answer 0"]
    assert "preferred" in page.locator("#policy-title").inner_text()

    page.select_option("#winner", "policy")
    assert texts(page, "position") == ["1 of 2"]
    page.click("#next")
    assert texts(page, "initial-text") == ["Initial answer 2"]
    assert page.locator("#next").is_disabled()

    page.select_option("#policy", label="policy_0")
    assert texts(page, "policy-text", "position") == ["A calm answer.", "1 of 1"]
    assert page.locator("#winner option").all_inner_texts() == ["any (1)", "neither (draw) (1)"]


def test_it_leads_with_answers_and_ticks(page):
    lead = page.locator("#lead")
    assert lead.locator(".example").count() == 3
    assert (lead.locator(".passed").count(), lead.locator(".failed").count()) == (10, 2)
    assert "✗ plain prose" in lead.locator(".failed").first.inner_text()
    assert page.locator(".drifted").inner_text().startswith("policy_1 drifted: on topic 0.70.")


def test_answers_are_read_blind_and_revealed(browser, tmp_path, summary):
    from selfie.reporting.sections import section_of

    annotations = [
        {"instruction": f"i{n}", "output_1": f"initial's {n}", "output_2": f"policy's {n}", "preference": 2.0}
        for n in range(30)
    ]
    section = section_of([], [], annotations, [], {}, lambda instruction, answer: {"own": "policy" in answer})
    file = tmp_path / "report.html"
    file.write_text(html_report(summary, {"policy_0": section}, seed=0), encoding="utf-8")
    page = browser.new_page()
    page.goto(file.as_uri())
    assert texts(page, "blind-position", "blind-title-A", "blind-title-B") == ["1 of 20", "A", "B"]
    policy = "A" if "policy" in page.locator("#blind-text-A").inner_text() else "B"
    page.click(f'[data-choice="{policy}"]')
    assert texts(page, f"blind-title-{policy}") == [policy]
    page.click("#blind-reveal")
    assert texts(page, f"blind-title-{policy}") == [f"{policy}: policy_0, follows the guide"]
    assert "policy_0 1 times, the initial model 0 times" in page.locator("#blind-tally").inner_text()
    page.click("#blind-next")
    assert texts(page, "blind-position", "blind-title-A") == ["2 of 20", "A"]
    page.click("#blind-previous")
    assert page.locator("#blind-reveal").is_disabled()
    page.close()


def test_answers_stay_text(page):
    """Whatever a model wrote is shown letter by letter, and none of it becomes an element."""
    script, image = (
        "</script><script>document.title = 'broken'</script>",
        "<img src=x onerror=\"document.title = 'broken'\">",
    )
    assert texts(page, "policy-text", "instruction") == [script, f"Instruction 0 {image}"]
    page.click("#next")
    assert texts(page, "policy-text") == [image]
    for summary in page.locator("#labels-examples summary").all():
        summary.click()
    example = page.locator("#labels-examples .example").first.inner_text()
    assert script in example
    assert image in example
    assert page.locator("header code").inner_text() == f"models/{image}"
    assert page.locator("img").count() == 0
    assert page.title() == "hostile: Selfie's report"


def test_nothing_is_wider_than_a_phone(page):
    """Not even a word of 3,000 letters in an answer or an example."""
    page.select_option("#winner", "policy")
    page.click("#next")
    assert len(page.locator("#policy-text").inner_text()) == 3000
    for summary in page.locator("#labels-examples summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


def test_without_labels_or_judgments_the_answers_are_still_there(browser, tmp_path, summary):
    from selfie.reporting.sections import section_of

    answers = [{"instruction": "Why?", "output": output} for output in ("Because.", "Since.")]
    section = section_of(answers[1:], answers[:1], [], [], {})
    file = tmp_path / "report.html"
    file.write_text(html_report(summary, {"policy_0": section}, seed=0), encoding="utf-8")
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(file.as_uri())
    assert texts(page, "initial-text", "policy-text") == ["Because.", "Since."]
    assert page.locator("#winner option").all_inner_texts() == ["any (1)", "not judged (1)"]
    assert page.locator("#labels-policy").count() == 0
    assert errors == []
    page.close()
