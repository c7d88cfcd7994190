"""The pages in a real Chromium: what scripts add, what a screen reader meets, and how it looks (screenshots)."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from pages_looked_at import SHOTS, listened_to, until, violations
from pages_studio import FakeStudio, a_workspace, an_app
from studiolo.problem import Conflict, Problem
from studiolo.resources import Reason, Stage

pytestmark = pytest.mark.browser

PAGES = {
    "workspaces": "/",
    "workspace": "/workspaces/tides",
    "workspace-building": "/workspaces/glacier-melt",
    "workspace-failed": "/workspaces/census",
    "workspace-trouble": "/workspaces/moraine",
    "environment": "/workspaces/tides/environment",
    "environment-compared": "/workspaces/tides/environment?before=1&after=now&generation=3",
    "environment-building": "/workspaces/glacier-melt/environment",
    "environment-trouble": "/workspaces/moraine/environment",
    "environment-log": "/workspaces/tides/environment/log",
    "logs": "/workspaces/tides/logs",
    "history": "/workspaces/tides/history",
    "document": "/workspaces/tides/document",
    "connect": "/workspaces/tides/connect",
    "delete": "/workspaces/tides/delete",
    "new": "/new",
    "new-file": "/new?by=file",
    "blocks": "/blocks",
    "block": "/blocks/compute/night-run",
    "machine": "/machine",
    "sign-in": "/sign-in?late=true",
    "waking": "/wake/glacier-melt/jupyterlab",
    "waking-failed": "/wake/census/jupyterlab",
    "waking-installing": "/wake/birdsong/vscode",
    "not-found": "/workspaces/nobody",
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_each_page_is_accessible_fits_and_is_kept_as_a_picture(
    visit: Callable[..., Page], width: int, scheme: str
) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[str]] = {}
    # Motion is still, so that contrast is measured on what stands.
    page = visit("/", viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce")
    for name, path in PAGES.items():
        page.goto(path)
        page.evaluate("document.fonts.ready")
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            found.setdefault(name, []).append("is wider than the window")
        page.screenshot(path=SHOTS / f"{name}-{width}-{scheme}.png", full_page=True)
        if wrong := violations(page):
            found.setdefault(name, []).extend(wrong)
    assert found == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_empty_list_teaches(visit: Callable[..., Page], studio: FakeStudio, scheme: str) -> None:
    studio.found.clear()
    page = visit("/", color_scheme=scheme, viewport={"width": 1280, "height": 900})
    expect(page.locator("main")).to_contain_text("studiolo run")
    assert violations(page) == []
    page.screenshot(path=SHOTS / f"empty-1280-{scheme}.png", full_page=True)
    page.set_viewport_size({"width": 390, "height": 900})
    page.screenshot(path=SHOTS / f"empty-390-{scheme}.png", full_page=True)
    page.get_by_label("Repository").fill("https://github.com/ada/moss")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Repository")).to_have_value("https://github.com/ada/moss")


def test_a_row_follows_what_happens_and_keeps_the_focus(visit: Callable[..., Page], studio: FakeStudio) -> None:
    page = visit("/")
    room = page.locator("#room-id-glacier-melt")
    expect(room).to_contain_text("31 of 48")
    listened_to(page, studio)
    link = page.locator("#room-link-id-glacier-melt")
    link.focus()
    studio.change(a_workspace("glacier-melt", "starting", progress="waiting for the first app"), "starting", "starting")
    expect(room).to_contain_text("waiting for the first app")
    expect(link).to_be_focused()
    studio.change(a_workspace("glacier-melt", "running"), "running", "ready to be used")
    ready = room.get_by_role("link", name="Open JupyterLab of glacier-melt, in a new tab")
    expect(ready).to_have_class(re.compile("way-ready"))
    expect(ready).to_have_attribute("href", "http://jupyterlab--glacier-melt--ada.localhost:8800/")
    studio.change(a_workspace("moss", "pending"), "created", "made")
    expect(page.locator("#room-id-moss")).to_be_visible()
    studio.change(None, "deleted", "deleted", name="tides")
    expect(page.locator("#room-id-tides")).to_have_count(0)


def test_what_happens_while_a_page_loads_is_not_missed(visit: Callable[..., Page], studio: FakeStudio) -> None:
    page = visit("/sign-in")

    def just_before(route: Route) -> None:
        studio.change(a_workspace("tides", "stopped"), "stopped", "nothing runs")
        route.continue_()

    page.route("**/events-stream", just_before)
    page.goto("/")
    expect(page.locator("#room-id-tides")).to_contain_text("Stopped")


def test_what_one_marks_stays_and_its_news_come_after(visit: Callable[..., Page], studio: FakeStudio) -> None:
    page = visit("/sign-in")
    with page.expect_response("**/fragments/rooms"):
        page.goto("/")  # which asks again for what it shows, once it listens
    page.wait_for_function("() => !document.querySelector('.htmx-request')")
    words = page.locator("#room-id-tides .room-repo")
    words.evaluate("it => getSelection().selectAllChildren(it)")
    with page.expect_response("**/fragments/room/id-tides"):
        studio.change(a_workspace("tides", "stopped"), "stopped", "nothing runs")
    studio.change(a_workspace("census", "stopped"), "stopped", "nothing runs")
    expect(page.locator("#room-id-census")).to_contain_text("Stopped")
    expect(page.locator("#room-id-tides")).to_contain_text("Running")
    assert page.evaluate("getSelection().toString()") == "github.com/ada/tides"
    page.evaluate("getSelection().removeAllRanges()")
    expect(page.locator("#room-id-tides")).to_contain_text("Stopped")


def test_a_page_that_nobody_looks_at_holds_no_connection(visit: Callable[..., Page], studio: FakeStudio) -> None:
    page = visit("/")
    listened_to(page, studio)
    page.evaluate(
        "() => { Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange')); }"
    )
    until(page, lambda: studio.listeners == 0)
    studio.change(a_workspace("tides", "stopped"), "stopped", "stopped while nobody looked")
    page.evaluate(
        "() => { Object.defineProperty(document, 'hidden', {value: false, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange')); }"
    )
    expect(page.locator("#room-id-tides")).to_contain_text("Stopped")


def test_stop_and_start_by_keyboard_without_leaving_the_page(visit: Callable[..., Page], studio: FakeStudio) -> None:
    page = visit("/")
    page.evaluate("window.stayed = true")
    page.get_by_role("button", name="Stop tides").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#room-id-tides")).to_contain_text("Stopping")
    assert studio.asked == [("stop", "tides")]
    assert page.evaluate("window.stayed")


def test_a_refusal_is_told_at_the_top(visit: Callable[..., Page], studio: FakeStudio) -> None:
    page = visit("/")
    studio.refusal = Conflict(Problem("deleting", "tides is being deleted", "wait a moment"))
    page.get_by_role("button", name="Stop tides").click()
    expect(page.get_by_role("alert")).to_contain_text("Tides is being deleted")
    page.get_by_role("button", name="Dismiss").click()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_the_first_tab_stop_skips_to_the_page(visit: Callable[..., Page]) -> None:
    page = visit("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the page")).to_be_focused()
    expect(page.get_by_role("link", name="Skip to the page")).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="New workspace")).to_be_focused()


def test_everything_that_acts_shows_where_the_focus_is(visit: Callable[..., Page]) -> None:
    page = visit("/workspaces/tides")
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            "() => { const it = document.activeElement; const how = getComputedStyle(it);"
            "return [it.tagName + (it.id || it.textContent.trim()), how.outlineStyle + how.outlineWidth]; }"
        )
        if name.startswith("BODY"):
            break
        assert outline != "none0px", name
        seen.add(name)
    assert len(seen) >= 15


def test_delete_asks_keeps_the_files_and_escape_leaves(visit: Callable[..., Page], studio: FakeStudio) -> None:
    page = visit("/workspaces/tides")
    dialog = page.get_by_role("dialog", name="Delete tides?")
    page.get_by_role("link", name="Delete…").focus()
    page.keyboard.press("Enter")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_role("link", name="Keep it")).to_be_focused()
    assert violations(page) == []
    page.screenshot(path=SHOTS / "delete-dialog-1280-light.png")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("link", name="Delete…")).to_be_focused()
    page.get_by_role("link", name="Delete…").click()
    dialog.get_by_role("button", name="Delete").click()
    expect(page).to_have_url(re.compile(r"/$"))
    assert studio.asked == [("delete", "tides")]


def test_files_go_only_when_that_is_ticked(visit: Callable[..., Page], studio: FakeStudio) -> None:
    page = visit("/workspaces/tides", java_script_enabled=False)
    page.get_by_role("link", name="Delete…").click()
    page.get_by_label("Also delete the files").check()
    page.get_by_role("button", name="Delete", exact=True).click()
    assert studio.asked == [("purge", "tides")]


def test_the_log_is_followed_until_one_looks_elsewhere(visit: Callable[..., Page], studio: FakeStudio) -> None:
    page = visit("/workspaces/tides/logs")
    log = page.get_by_role("log")
    expect(log).to_contain_text("Saving file at /notebooks/spring-tide.ipynb")
    studio.write("jupyterlab", "\x1b[31mKernel died <b>loudly</b>\x1b[0m")
    expect(log).to_contain_text("Kernel died <b>loudly</b>")
    studio.write("vscode", "this is of another app")
    for number in range(60):
        studio.write("jupyterlab", f"line {number}")
    expect(log).to_contain_text("line 59")
    expect(log).not_to_contain_text("another app")
    assert log.evaluate("it => it.scrollHeight - it.scrollTop - it.clientHeight") < 5
    assert log.inner_text().count("Kernel died") == 1
    page.get_by_label("Follow").uncheck()
    page.get_by_role("navigation", name="Apps").get_by_role("link", name="VS Code").click()
    expect(page.get_by_role("log")).to_contain_text("this is of another app")


def test_make_a_workspace_with_the_keyboard_and_watch_it_start(visit: Callable[..., Page], studio: FakeStudio) -> None:
    page = visit("/")
    page.get_by_role("link", name="New workspace").click()
    page.get_by_label("Repository").fill("https://github.com/ada/moss")
    page.get_by_label("Name").fill("Moss!")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Name")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Name")).to_have_accessible_description(re.compile("moss would do"))
    page.screenshot(path=SHOTS / "new-wrong-1280-light.png", full_page=True)
    assert violations(page) == []
    page.get_by_label("Name").fill("moss")
    page.get_by_label("Compute").select_option("cpu-small")
    page.get_by_role("button", name="Make and start it").click()
    expect(page).to_have_url(re.compile("/workspaces/moss$"))
    expect(page.locator(".head")).to_contain_text("Waiting its turn")
    listened_to(page, studio)
    failed = a_workspace(
        "moss",
        "failed",
        stages=(Stage(name="locked", seconds=0.4),),
        reason=Reason(code="disk-full", message="the disk is full: 0 bytes are left", hint="remove something"),
    )
    studio.change(failed, "failed", "the disk is full")
    expect(page.locator(".head")).to_contain_text("The disk is full: 0 bytes are left")
    page.get_by_role("button", name="Start again moss").click()
    expect(page.locator(".head")).to_contain_text("Waiting its turn")
    assert studio.asked == [("restart", "moss")]


def test_usage_is_asked_for_again_by_itself(visit: Callable[..., Page], studio: FakeStudio) -> None:
    page = visit("/workspaces/tides")
    with page.expect_response("**/fragments/charts/id-tides", timeout=30_000) as answer:
        pass
    assert answer.value.status == 200


def test_waking_tells_each_stage_and_then_opens_the_app(visit: Callable[..., Page], studio: FakeStudio) -> None:
    page = visit("/wake/glacier-melt/jupyterlab")
    expect(page.get_by_text("installing pandas, 31 of 48 packages")).to_be_visible()
    listened_to(page, studio)
    building = studio.found["glacier-melt"]
    studio.change(building, "progress", "installing scipy, 40 of 48 packages")
    expect(page.locator("#doing")).to_have_text("installing scipy, 40 of 48 packages")
    studio.change(building, "built", "48 packages", 12.3)
    expect(page.locator('[data-stage="built"]')).to_contain_text("12 s")
    expect(page.locator('[data-stage="started"]')).to_have_class(re.compile("stage-current"))
    studio.change(a_workspace("glacier-melt", "running"), "running", "ready to be used")
    expect(page.get_by_role("heading", name="The app itself")).to_be_visible()


def test_waking_does_not_start_again_what_somebody_stopped(visit: Callable[..., Page], studio: FakeStudio) -> None:
    page = visit("/wake/glacier-melt/jupyterlab")
    expect(page.get_by_text("since it was asked for")).to_be_visible()
    studio.stopped = True
    expect(page.get_by_text("It was stopped before it had started.")).to_be_visible()
    expect(page.locator("#underway")).to_be_hidden()
    studio.stopped = False
    page.get_by_role("link", name="Start it again").click()
    expect(page.locator("#underway")).to_be_visible()


def test_waking_shows_why_it_failed(visit: Callable[..., Page], studio: FakeStudio) -> None:
    page = visit("/wake/glacier-melt/jupyterlab")
    listened_to(page, studio)
    reason = Reason(code="build-failed", message="numpy 9 does not exist", hint="write numpy>=2")
    studio.change(a_workspace("glacier-melt", "failed", reason=reason), "failed", "numpy 9 does not exist")
    expect(page.get_by_text("Numpy 9 does not exist")).to_be_visible()
    expect(page.get_by_role("button", name="Start again")).to_be_visible()


def test_waking_finds_out_by_itself_when_nothing_is_told(visit: Callable[..., Page], studio: FakeStudio) -> None:
    page = visit("/wake/birdsong/vscode")
    expect(page.get_by_text("120 of 165 packages")).to_be_visible()
    birdsong = studio.found["birdsong"]
    apps = (birdsong.apps[0], an_app("birdsong", "vscode", "ready"))
    studio.found["birdsong"] = birdsong.model_copy(update={"apps": apps})
    expect(page.get_by_role("heading", name="The app itself")).to_be_visible(timeout=20_000)


def test_waking_works_without_scripts(visit: Callable[..., Page], studio: FakeStudio) -> None:
    page = visit("/wake/glacier-melt/jupyterlab", java_script_enabled=False)
    expect(page.get_by_text("installing pandas, 31 of 48 packages")).to_be_visible()
    studio.found["glacier-melt"] = a_workspace("glacier-melt", "running")
    expect(page.get_by_role("heading", name="The app itself")).to_be_visible(timeout=20_000)
