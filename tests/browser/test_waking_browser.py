"""Waking in a real Chromium, through the real edge: what a person sees, and what a page left open does not do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from installation import ROOT, Installation, left_behind, until

pytestmark = pytest.mark.browser

SHOTS = ROOT / "test-results" / "screenshots"
_ARGUMENTS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]

# Its page asks all the time, as JupyterLab does for its kernels and VS Code for its connection, and shows the latest
# answer. It waits for a file before it listens, where it is told to.
APP = """
import http.server, os, sys, time
PAGE = '''<!doctype html><title>The app</title><h1>The app itself</h1><p id="asked">0</p><p id="met"></p>
<button id="save">Save</button><button id="beacon">Beacon</button><p id="saved"></p><script>
let asked = 0;
const met = (text) => { document.getElementById("met").textContent = text; };
const count = () => { document.getElementById("asked").textContent = ++asked; };
setInterval(async () => {
  const answer = await fetch("/api/kernels").catch(() => null);
  if (answer) met(answer.status === 503 ? (await answer.json()).code : answer.status);
  count();
}, 100);
setInterval(() => {
  const socket = new WebSocket("ws://" + location.host + "/channels");
  socket.onerror = count;
}, 200);
document.getElementById("beacon").onclick = () => navigator.sendBeacon("/closed", "bye");
document.getElementById("save").onclick = async () => {
  const answer = await fetch("/notes", { method: "PUT", body: "x".repeat(100000) });
  document.getElementById("saved").textContent = await answer.text();
};
</script>'''
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, text, kind="text/plain"):
        self.send_response(200); self.send_header("Content-Type", kind); self.end_headers()
        self.wfile.write(text.encode())
    def do_GET(self):
        self.answer(PAGE, "text/html") if self.path == "/" else self.answer("ok")
    def do_PUT(self):
        self.answer("kept %d bytes" % len(self.rfile.read(int(self.headers["Content-Length"]))))
    do_POST = do_PUT
    def log_message(self, *_): pass
while os.path.exists(os.path.expanduser("~/hold")): time.sleep(0.02)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
DOCUMENT = {
    "name": "room",
    "apps": [{"name": "web", "kind": "command", "command": [sys.executable, "-I", "-c", APP, "{port}"]}],
    "environment": {"packages": ["six"]},
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    installation = Installation(tmp_path_factory.mktemp("browser") / "home")
    yield installation
    installation.down()
    assert left_behind(installation.home) == []


@pytest.fixture(scope="module")
def person(installed: Installation) -> Iterator[BrowserContext]:
    """Signed in, with a workspace."""
    link = installed.up()
    installed.make(DOCUMENT)
    installed.phase("room", "running")
    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=_ARGUMENTS)
        context = browser.new_context(viewport={"width": 1280, "height": 860})
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.goto(link)
        expect(page.get_by_role("heading", name="Workspaces")).to_be_visible()
        page.close()
        yield context
        browser.close()


@pytest.fixture
def page(installed: Installation, person: BrowserContext) -> Iterator[Page]:
    page = person.new_page()
    yield page
    page.close()
    held(installed).unlink(missing_ok=True)


def held(installed: Installation) -> Path:
    return installed.layout.workspace_home(installed.workspace("room").id) / "hold"


def address(installed: Installation) -> str:
    return installed.workspace("room").apps[0].url


def asleep(installed: Installation) -> None:
    installed.run("stop", "room")
    installed.phase("room", "stopped")


def test_the_link_of_a_stopped_workspace_leads_to_the_app_through_sign_in(installed: Installation, page: Page) -> None:
    """The first time a browser comes it holds no grant yet, and goes by the control host."""
    asleep(installed)
    page.goto(address(installed))
    expect(page.get_by_role("heading", name="The app itself")).to_be_visible(timeout=30_000)
    assert page.url == address(installed)


def test_a_slow_start_shows_its_stages_and_then_the_app(installed: Installation, page: Page) -> None:
    asleep(installed)
    held(installed).touch()
    answer = page.goto(address(installed))
    assert answer is not None
    assert answer.status == 503
    expect(page.locator('[data-stage="started"]')).to_have_class("stage stage-done")
    expect(page.locator('[data-stage="ready"]')).to_have_class("stage stage-current")
    expect(page.locator("#elapsed")).to_be_visible()
    for width in (1280, 390):
        for scheme in ("light", "dark"):
            page.set_viewport_size({"width": width, "height": 860})
            page.emulate_media(color_scheme=scheme)
            page.screenshot(path=SHOTS / f"waking-real-{width}-{scheme}.png")
    held(installed).unlink()
    expect(page.get_by_role("heading", name="The app itself")).to_be_visible(timeout=30_000)


def test_who_stops_it_while_it_wakes_is_not_overruled_by_the_page(installed: Installation, page: Page) -> None:
    asleep(installed)
    held(installed).touch()
    page.goto(address(installed))
    expect(page.locator("#underway")).to_be_visible()
    asleep(installed)
    expect(page.get_by_text("It was stopped before it had started.")).to_be_visible()
    assert installed.workspace("room").desired == "stopped"
    held(installed).unlink()
    page.get_by_role("link", name="Start it again").click()
    expect(page.get_by_role("heading", name="The app itself")).to_be_visible(timeout=30_000)


def test_a_page_left_open_lets_it_sleep_until_somebody_does_something(installed: Installation, page: Page) -> None:
    page.goto(address(installed))
    expect(page.locator("#met")).to_have_text("200", timeout=30_000)
    asleep(installed)
    expect(page.locator("#met")).to_have_text("stopped")
    before = int(page.locator("#asked").inner_text())
    page.locator("#beacon").click()
    until(lambda: int(page.locator("#asked").inner_text()) > before + 20, 30, "that it asks on")
    assert (found := installed.workspace("room")).desired == "stopped", found.phase

    page.locator("#save").click()
    expect(page.locator("#saved")).to_have_text("kept 100000 bytes", timeout=30_000)
    expect(page.locator("#met")).to_have_text("200", timeout=30_000)


def test_a_page_reload_wakes_it_in_another_tab_too(installed: Installation, person: BrowserContext, page: Page) -> None:
    page.goto(address(installed))
    expect(page.get_by_role("heading", name="The app itself")).to_be_visible(timeout=30_000)
    asleep(installed)
    held(installed).touch()
    other = person.new_page()
    other.goto(address(installed))
    page.reload()
    expect(page.locator("#underway")).to_be_visible()
    held(installed).unlink()
    for each in (page, other):
        expect(each.get_by_role("heading", name="The app itself")).to_be_visible(timeout=30_000)
    other.close()
