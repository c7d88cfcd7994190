"""Looking at a page in a browser: what a screen reader would stumble over, and when something has come about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from pages_studio import FakeStudio

AXE = (Path(__file__).parent / "vendor" / "axe-4.14.1.min.js").read_text()
SHOTS = Path(__file__).parents[2] / "test-results" / "screenshots"


def violations(page: Page) -> list[str]:
    """What axe finds against WCAG 2.2 AA and its own best practices, serious or worse."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{each['id']}: {node['html'][:160]} {node['failureSummary']}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def listened_to(page: Page, studio: FakeStudio) -> None:
    until(page, lambda: studio.listeners > 0)


def until(page: Page, true: Callable[[], bool]) -> None:
    """Waits for what happens on the server's side, while the browser goes on."""
    for _ in range(500):
        if true():
            return
        page.evaluate("() => new Promise(requestAnimationFrame)")
    pytest.fail("it did not happen")
