"""The main job in a real Chromium, through the real edge, with the real JupyterLab and VS Code."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from installation import ROOT, Installation, left_behind

pytestmark = pytest.mark.browser

SHOTS = ROOT / "test-results" / "screenshots"
EXAMPLE = ROOT / "examples" / "penguins"
_ARGUMENTS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    installation = Installation(tmp_path_factory.mktemp("browser") / "home")
    yield installation
    installation.down()
    assert left_behind(installation.home) == []


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example: running a notebook writes into it."""
    copy = tmp_path_factory.mktemp("repository") / "penguins"
    shutil.copytree(EXAMPLE, copy)
    return copy


@pytest.fixture(scope="module")
def person(installed: Installation) -> Iterator[BrowserContext]:
    """Signed in by the link that `up` printed."""
    link = installed.up()
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


def shoot(page: Page, name: str) -> None:
    page.screenshot(path=SHOTS / f"main-job-{name}.png")


def test_a_workspace_is_made_from_the_page(installed: Installation, person: BrowserContext, repository: Path) -> None:
    page = person.new_page()
    page.goto(f"{installed.origin}/new")
    page.get_by_label(re.compile("repository", re.IGNORECASE)).first.fill(str(repository))
    page.locator("#name").fill("penguins")
    page.locator('form:has(#repository) button[type="submit"]').click()
    page.wait_for_url("**/workspaces/penguins*")
    shoot(page, "starting")
    expect(page.get_by_role("link", name=re.compile("JupyterLab")).first).to_be_visible(timeout=240_000)
    installed.phase("penguins", "running", seconds=240)
    page.goto(installed.origin)
    expect(page.get_by_role("link", name=re.compile("VS Code"))).to_be_visible(timeout=120_000)
    shoot(page, "dashboard")
    page.close()


def test_the_notebook_runs_and_plots(installed: Installation, person: BrowserContext) -> None:
    page = person.new_page()
    page.goto(f"{installed.token('penguins', 'jupyterlab').url}")
    expect(page.locator(".jp-NotebookPanel")).to_be_visible()
    expect(page.get_by_text(re.compile(r"Python .* \(penguins\) \| Idle"))).to_be_visible()
    assert page.locator(".jp-Dialog").count() == 0, "nothing is asked at first sight"
    page.get_by_role("menuitem", name="Run").click()
    page.get_by_text("Run All Cells", exact=True).click()
    plots = page.locator(".jp-OutputArea-output img")
    expect(plots.first).to_be_visible(timeout=120_000)
    plots.first.scroll_into_view_if_needed()
    assert page.locator('.jp-OutputArea-output[data-mime-type*="error"]').count() == 0
    shoot(page, "jupyterlab")
    page.close()


def test_vscode_shows_the_repository_and_a_terminal_in_its_environment(
    installed: Installation, person: BrowserContext
) -> None:
    page = person.new_page()
    page.goto(f"{installed.token('penguins', 'vscode').url}")
    explorer = page.locator(".explorer-viewlet")
    expect(explorer.get_by_text("penguins.ipynb")).to_be_visible()
    expect(page.get_by_text("[Preview] README.md")).to_be_visible()
    for unwanted in ("Restricted Mode", "Get Started", "Build with Agent", "Do you trust"):
        assert page.get_by_text(unwanted).count() == 0, unwanted
    page.wait_for_timeout(1000)
    page.keyboard.press("Control+`")
    terminal = page.locator(".terminal-wrapper .xterm-helper-textarea")
    terminal.wait_for(state="attached")
    seen = installed.home / "terminal.txt"

    def typed() -> bool:
        terminal.focus()
        page.keyboard.type(f"which python > '{seen}'\n")
        page.wait_for_timeout(1500)
        return seen.exists() and bool(seen.read_text())

    assert any(typed() for _ in range(10)), "the terminal takes input"
    assert seen.read_text().endswith("/.studiolo/overlay/bin/python\n")
    shoot(page, "vscode")
    page.close()


def test_stop_and_wake_by_opening_the_link(installed: Installation, person: BrowserContext) -> None:
    page = person.new_page()
    page.goto(f"{installed.origin}/workspaces/penguins")
    page.get_by_role("button", name="Stop").first.click()
    installed.phase("penguins", "stopped")
    page.goto(f"{installed.token('penguins', 'jupyterlab').url}")
    shoot(page, "waking")
    expect(page.locator(".jp-NotebookPanel")).to_be_visible(timeout=120_000)
    page.close()


def test_signing_out_takes_everything_away(installed: Installation, person: BrowserContext) -> None:
    page = person.new_page()
    page.goto(f"{installed.token('penguins', 'jupyterlab').url}")
    expect(page.locator(".jp-NotebookPanel")).to_be_visible()
    desk = person.new_page()
    desk.goto(installed.origin)
    desk.get_by_role("button", name="Sign out").click()
    expect(desk).to_have_url(re.compile("sign-in"))
    answer = page.goto(f"{installed.token('penguins', 'jupyterlab').url}lab")
    assert answer is not None
    assert answer.status == 401
    assert page.locator(".jp-NotebookPanel").count() == 0
