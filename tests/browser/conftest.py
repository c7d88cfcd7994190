"""A small Studio, and a browser for its pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from pages_studio import FakeStudio, a_full_house, serving

_ARGUMENTS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def studio() -> FakeStudio:
    return a_full_house()


@pytest.fixture
def url(studio: FakeStudio) -> Iterator[str]:
    with serving(studio) as address:
        yield address


@pytest.fixture
def visit(chromium: Browser, url: str) -> Iterator[Callable[..., Page]]:
    """Opens a page in a browser of its own. Whatever a policy refuses or a script breaks fails the test."""
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def watch(message: Any) -> None:
        # A page that is answered with an error is one of those looked at here.
        told = ("Failed to load resource", "Response Status Error Code")
        if message.type == "error" and not message.text.startswith(told):
            wrong.append(message.text)

    def open_page(path: str, **options: Any) -> Page:
        context = chromium.new_context(base_url=url, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", watch)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def http(url: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=url, headers={"Accept": "text/html"}, timeout=20) as client:
        yield client
