"""The environment page over the real control plane: a real build read along, and a real way back."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from installation import Installation, echo, left_behind

pytestmark = pytest.mark.browser

expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Installation, str]]:
    installation = Installation(tmp_path_factory.mktemp("environment") / "home")
    yield installation, installation.up()
    installation.down()
    assert left_behind(installation.home) == []


@pytest.fixture
def at(chromium: Browser, installed: tuple[Installation, str]) -> Iterator[Callable[[str], Page]]:
    """Signed in, at an address of the dashboard."""
    installation, link = installed
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(link)

    def at(path: str) -> Page:
        page.goto(f"{installation.origin}{path}")
        return page

    yield at
    context.close()


def test_a_build_is_read_along_and_gone_back_from(
    installed: tuple[Installation, str], at: Callable[[str], Page], tmp_path: Path
) -> None:
    installation, _ = installed
    asked = tmp_path / "requirements.txt"
    asked.write_text("six==1.17.0\n")
    installation.make({"name": "back", "apps": [echo()]}, repository=str(tmp_path))
    installation.phase("back", "running")
    page = at("/workspaces/back/environment")
    expect(page.get_by_role("heading", name="Generation 1 current").first).to_be_visible()

    asked.write_text("six==1.16.0\niniconfig==2.0.0\n")
    page.get_by_role("button", name="Restart back").click()
    expect(page.get_by_role("heading", name="Generation 2 current")).to_be_visible()
    expect(page.get_by_role("button", name="Roll back to it (generation 1)")).to_be_visible()
    page.get_by_role("link", name="What changed with generation 2").click()
    changes = page.locator("section[aria-labelledby=changes]")
    expect(changes).to_contain_text(re.compile(r"Added 1\s+iniconfig 2.0.0"))
    expect(changes).to_contain_text(re.compile(r"six\s+1.17.0 →to 1.16.0"))
    with page.expect_download() as file:
        page.get_by_role("link", name="requirements.txt").click()
    assert "six==1.16.0" in file.value.path().read_text()
    with page.expect_download() as file:
        page.get_by_role("link", name="bill of materials").click()
    assert '"CycloneDX"' in file.value.path().read_text()
    page.get_by_role("link", name="the build's log").click()
    expect(page.get_by_role("log")).to_contain_text("six")
    expect(page.get_by_text("The build has ended.")).to_be_visible()

    page = at("/workspaces/back/environment")
    page.get_by_role("button", name="Roll back to it (generation 1)").click()
    expect(page.get_by_role("heading", name="Generation 1 current").first).to_be_visible()
    expect(page.get_by_role("heading", name="Generation 2 rolled back").first).to_be_visible()
    installation.phase("back", "running")

    asked.write_text("six==1.17.0\nno-such-package-at-all==1.0\n")
    page.get_by_role("button", name="Restart back").click()
    expect(page.locator(".head .why")).to_contain_text("The one before stays in use")
    expect(page.locator(".head .why")).to_contain_text("no-such-package-at-all")
    expect(page.locator(".state")).to_contain_text("Running")
