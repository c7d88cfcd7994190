"""The environment's pages in a real Chromium: what scripts add."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from pages_looked_at import SHOTS, listened_to, violations
from pages_studio import FakeStudio

pytestmark = pytest.mark.browser

PAGE = "/workspaces/tides/environment"


def test_rolling_back_is_one_click_on_the_page(visit: Callable[..., Page], studio: FakeStudio) -> None:
    page = visit(PAGE)
    page.evaluate("window.stayed = true")
    page.get_by_role("button", name="Roll back to it (generation 4)").click()
    row = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="Generation 4", exact=False))
    expect(row.first).to_contain_text("current")
    expect(page.get_by_role("button", name="Go to it (generation 5)")).to_be_visible()
    assert studio.asked == [("rollback 4", "tides")]
    page.get_by_role("button", name="Pin (generation 4)").click()
    expect(page.get_by_role("button", name="Unpin (generation 4)")).to_be_visible()
    # what was pinned is told where renewing is offered, too, although another piece was answered
    expect(page.locator(".renewal")).to_contain_text("Pinned to generation 4")
    assert page.evaluate("window.stayed")
    assert violations(page) == []


def test_two_are_compared_by_choosing_them(visit: Callable[..., Page]) -> None:
    page = visit(PAGE, viewport={"width": 1280, "height": 900})
    page.get_by_label("From").select_option("generation 1")
    page.get_by_label("to", exact=True).select_option("what is in use now")
    page.get_by_role("button", name="Compare").click()
    expect(page).to_have_url(re.compile("before=1&after=now#changes"))
    expect(page.get_by_role("heading", name="What changed")).to_be_in_viewport()
    section = page.locator("section[aria-labelledby=changes]")
    expect(section).to_contain_text("Added 6")
    expect(section.get_by_role("listitem").filter(has_text="utide")).to_contain_text("0.4.0")
    expect(page.get_by_label("From")).to_have_value("1")


def test_the_list_is_narrowed_while_one_types(visit: Callable[..., Page]) -> None:
    page = visit(f"{PAGE}?q=mit-cmu")
    listed = page.locator("#contents").get_by_role("listitem")
    expect(listed).to_have_count(1)
    expect(page.get_by_role("button", name="Find")).to_be_hidden()
    field = page.get_by_label("Find a package by name or licence")
    field.fill("")
    expect(listed).to_have_count(25)
    field.press_sequentially("APACHE")
    expect(listed).to_have_count(4)
    expect(page.get_by_role("status")).to_have_text("4 of 25 packages")
    expect(listed.first).to_contain_text("asttokens")
    assert violations(page) == []


def test_without_scripts_all_of_it_works(visit: Callable[..., Page], studio: FakeStudio) -> None:
    page = visit(PAGE, java_script_enabled=False)
    page.get_by_label("Find a package by name or licence").fill("zlib")
    page.get_by_role("button", name="Find").click()
    expect(page.locator("#contents").get_by_role("listitem")).to_have_count(1)
    page.get_by_role("link", name="What changed with generation 6").click()
    expect(page.locator("section[aria-labelledby=changes]")).to_contain_text("bottleneck")
    page.get_by_label("statsmodels").uncheck()
    page.get_by_role("button", name="Adopt").click()
    expect(page.get_by_text("A new environment is being built")).to_be_visible()
    page.get_by_role("button", name="Give up tides").click()
    expect(page.get_by_role("button", name="Update packages tides")).to_be_visible()
    assert studio.asked == [("adopt seaborn", "tides"), ("cancel", "tides")]


def test_a_build_is_read_along_to_its_end(visit: Callable[..., Page], studio: FakeStudio) -> None:
    page = visit(PAGE, viewport={"width": 1280, "height": 900})
    listened_to(page, studio)
    page.get_by_role("button", name="Update packages tides").click()
    expect(page.locator(".renewal")).to_contain_text("resolving 26 packages")
    expect(page.locator(".head")).to_contain_text("New environment: resolving 26 packages")
    page.screenshot(path=SHOTS / "environment-renewing-1280-light.png")
    page.get_by_role("link", name="Read along").click()
    log = page.get_by_role("log")
    expect(log).to_contain_text("Prepared 3 packages")
    expect(page.get_by_text("The build has ended.")).to_be_hidden()
    expect(page.get_by_label("Follow")).to_be_visible()
    studio.environments.wrote("tides", "\x1b[36m + zarr==3.2.0 <b>\x1b[0m")
    expect(log).to_contain_text("+ zarr==3.2.0 <b>")
    tides = studio.found["tides"]
    studio.change(tides.model_copy(update={"renewing": False, "progress": ""}), "generation", "generation 7")
    expect(page.get_by_text("The build has ended.")).to_be_visible()
    expect(page.get_by_label("Follow")).to_be_hidden()
    assert log.inner_text().count("Prepared 3 packages") == 1
    page.screenshot(path=SHOTS / "environment-log-ended-1280-light.png")
    assert violations(page) == []
    page.get_by_role("button", name="Update packages tides").click()
    expect(page.get_by_label("Follow")).to_be_visible()
    studio.environments.wrote("tides", "and on it goes")
    expect(log).to_contain_text("and on it goes")


def test_rescue_is_one_click_where_it_failed(visit: Callable[..., Page], studio: FakeStudio) -> None:
    page = visit("/workspaces/census/environment")
    page.get_by_role("button", name="Start in rescue mode census").click()
    expect(page.locator(".head")).to_contain_text("Starting")
    assert studio.asked == [("rescue", "census")]
