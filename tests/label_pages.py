"""What tests do with the labelling page in a browser."""

from typing import Any


def press(page: Any, key: str, saved: str) -> None:
    page.keyboard.press(key)
    page.wait_for_function("text => document.getElementById('saved').textContent === text", arg=saved)


def done(page: Any) -> str:
    return page.locator("#progress-text").inner_text().split(" · ")[0]
