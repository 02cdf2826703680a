"""The labelling page in a real browser: on a phone, with hostile answers, by axe, and when its server is gone."""

import os
import re
from pathlib import Path
from typing import Any

from label_pages import done, press
from selfie.labelling.label_file import read_labels

PHONE = {"width": 360, "height": 740}
HOSTILE = "<img src=x onerror=\"document.title = 'broken'\"><script>document.title = 'broken'</script>"
AXE = os.environ.get("AXE_CORE")  # the path of axe.min.js (`npm pack axe-core`), where there is one


def test_answers_stay_text_and_nothing_is_wider_than_a_phone(serve, open_page, pairs, tmp_path: Path):
    """Whatever a model wrote is shown letter by letter; a label by touch is the one that was touched."""
    hostile = [{**row, "response_1": f"{HOSTILE} {row['response_1']}", "response_2": "x" * 3000} for row in pairs]
    page = open_page(serve(hostile).url, viewport=PHONE, has_touch=True)
    for count in range(len(pairs)):
        left = page.locator("#left").inner_text().startswith(HOSTILE)
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        page.locator(f'[data-choice="{"left" if left else "right"}"]').tap()
        page.wait_for_function("done => document.getElementById('progress').value === done", arg=count + 1)
    assert page.locator("#done-title").is_visible()
    assert page.title() == "Which answer is better? – Selfie"
    assert page.locator("img").count() == 0
    assert [label.verdict for label in read_labels(tmp_path / "ana.jsonl")] == ["response_1"] * len(pairs)


def test_time_is_counted_and_keys_with_ctrl_are_the_browsers(serve, open_page, pairs, tmp_path: Path):
    page = open_page(serve(pairs).url)
    page.wait_for_timeout(600)
    page.keyboard.press("Control+t")
    press(page, "ArrowLeft", "Saved: Answer 1 is better.")
    (label,) = read_labels(tmp_path / "ana.jsonl")
    assert 0.5 <= label.seconds < 10
    assert page.locator("#progress-text").inner_text().startswith("1 of 4 · annotator ana · 1 s a label · about a min")


def test_a_second_window_and_a_server_that_is_gone_are_said(serve, open_page, pairs, tmp_path: Path):
    server = serve(pairs)
    one, other = open_page(server.url, errors=True), open_page(server.url, errors=True)
    press(one, "1", "Saved: Answer 1 is better.")
    other.keyboard.press("2")
    other.wait_for_selector("#alarm:not(:empty)")
    assert "this pair is labelled already" in other.locator("#alarm").inner_text()
    assert done(other) == "1 of 4"
    press(other, "t", "Saved: Tie.")
    assert other.locator("#alarm").inner_text() == ""
    server.shutdown()
    server.server_close()
    other.keyboard.press("1")
    other.wait_for_selector("#alarm:not(:empty)")
    assert "Not saved: the server does not answer" in other.locator("#alarm").inner_text()
    assert len(read_labels(tmp_path / "ana.jsonl")) == 2


def test_it_is_accessible(serve, open_page, pairs):
    """By axe, where ``AXE_CORE`` names its file; what every page needs is checked anyway."""
    page = open_page(serve(pairs).url)
    press(page, "s", "Saved: Skipped.")
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.evaluate("document.activeElement.id") == "prompt-title"
    for control in page.locator("button, progress").all():
        assert control.inner_text().strip() or control.get_attribute("aria-label")
    assert page.locator("[aria-live]").evaluate_all("all => all.map(one => one.id)") == ["saved"]
    assert page.locator("[role=alert]").count() == 1
    assert min(contrasts(page)) >= 4.5
    if AXE:
        page.evaluate(Path(AXE).read_text())  # no script tag: the page's policy forbids it
        violations = page.evaluate("axe.run()")["violations"]
        assert [(found["id"], [node["html"] for node in found["nodes"]]) for found in violations] == []


def contrasts(page: Any) -> list[float]:
    """WCAG's contrast ratio of the text in each visible button and paragraph to what is behind it."""
    colours = page.evaluate(
        """() => [...document.querySelectorAll("h1, h2, p, button, b")].filter(one => one.offsetParent).map(one => {
          let behind = one;
          while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
          return [getComputedStyle(one).color, getComputedStyle(behind).backgroundColor];
        })"""
    )
    return [contrast(*(tuple(map(int, re.findall(r"\d+", colour)[:3])) for colour in pair)) for pair in colours]


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: tuple[int, ...]) -> float:
    """Relative luminance of an sRGB colour, by WCAG 2's formula."""
    parts = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))
