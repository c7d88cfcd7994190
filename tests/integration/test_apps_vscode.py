"""The real code-server, started from its declaration, and what asks for extensions beside it."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import async_playwright

from running_app import BROWSER, SCREENSHOTS, RunningApp, a_place, on_a_port, running_app, short_folder
from studiolo.apps import vscode
from studiolo.apps.app import Place
from studiolo.apps.kinds import KINDS

pytestmark = pytest.mark.timeout(1500)

# Nobody listens on the discard port: what a registry that cannot be reached looks like, at once and everywhere.
NO_REGISTRY = {
    "EXTENSIONS_GALLERY": json.dumps(
        {"serviceUrl": "http://127.0.0.1:9/api", "itemUrl": "http://127.0.0.1:9/item", "resourceUrlTemplate": ""}
    )
}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def place(folder: Path, vscode_tools: Path, small_environment: Path) -> Place:
    repository = folder / "repo"
    for name in ("src", ".secret"):
        (repository / name).mkdir(parents=True)
    (repository / "README.md").write_text("# The readme\n")
    return a_place(folder, "vscode", vscode_tools, small_environment, repository, folder / "code.sock")


@pytest.fixture(scope="module")
def code(place: Place) -> Iterator[RunningApp]:
    with running_app("vscode", place, NO_REGISTRY) as app:
        yield app


def wait_for(text: str, log: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while text not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def test_only_its_owner_can_reach_it(code: RunningApp) -> None:
    assert stat.S_IMODE(code.place.socket.stat().st_mode) == 0o600


def test_the_first_page_is_the_folder(code: RunningApp) -> None:
    with code.client() as client:
        answer = client.get("/")
        assert answer.status_code == 302
        assert answer.headers["location"].endswith(f"?folder={code.place.folder}")


def test_a_registry_that_cannot_be_reached_is_said_once_and_leaves_no_zombie(code: RunningApp) -> None:
    wait_for("no extension registry can be reached", code.log)
    assert code.log.read_text().count("no extension registry can be reached") == 1
    assert [each for each in code.session() if each[1] == code.pid and each[2] == "Z"] == []


def test_nobodys_own_configuration_of_code_server_is_touched(code: RunningApp) -> None:
    assert not (code.place.home / ".config").exists()


def test_one_process_is_enough_until_an_editor_comes(code: RunningApp) -> None:
    wait_for("no extension registry can be reached", code.log)
    assert [pid for pid, *_ in code.session()] == [code.pid]


def test_the_pages_script_is_packed_for_speed_not_for_size(code: RunningApp) -> None:
    assert code.place.tools is not None
    file = code.place.tools / "node_modules/code-server/lib/vscode/out/vs/code/browser/workbench/workbench.js"
    with code.client() as client:
        page = client.get("/", follow_redirects=True).text
        found = re.search(r"stable-\w+/static/out/vs/code/browser/workbench/workbench\.js", page)
        assert found is not None
        with client.stream("GET", f"/{found[0]}", headers={"Accept-Encoding": "gzip"}) as answer:
            packed = b"".join(answer.iter_raw())
    script = file.read_bytes()
    assert gzip.decompress(packed) == script
    assert len(packed) > 1.05 * len(gzip.compress(script, 6))


async def test_activity_begins_with_the_first_editor(code: RunningApp) -> None:
    found = await KINDS["vscode"].activity(code.place.socket)
    assert found is not None
    assert not found.busy


@pytest.mark.browser
async def test_first_sight_is_quiet_and_terminals_are_in_the_environment(code: RunningApp) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    proof = code.place.home / "proof"
    async with on_a_port(code.place) as origin, async_playwright() as playwright:
        browser = await playwright.chromium.launch(**BROWSER)  # type: ignore[arg-type]
        page = await browser.new_page(viewport={"width": 1280, "height": 850})
        page.set_default_timeout(90_000)
        await page.goto(origin)
        await page.wait_for_selector(".explorer-folders-view .monaco-list-row:has-text('README.md')")
        await page.wait_for_selector(".tab:has-text('README.md')")
        # Drawn by an extension: from here on extensions have had their say.
        preview = page.frame_locator("iframe.webview.ready").frame_locator("iframe#active-frame")
        await preview.get_by_role("heading", name="The readme").wait_for()
        await page.screenshot(path=SCREENSHOTS / "app-vscode-first-sight.png")
        listed = await page.locator(".explorer-folders-view .monaco-list-row").all_inner_texts()
        assert [name.strip() for name in listed] == ["src", "README.md"]
        assert await page.locator(".notification-toast, .monaco-dialog-box").count() == 0
        for unwanted in ("Restricted Mode", "Get Started", "Sign in", "Build with Agent"):
            assert await page.get_by_text(unwanted).count() == 0, unwanted
        assert [await tab.inner_text() for tab in await page.locator(".tab .label-name").all()] == [
            "[Preview] README.md"
        ]
        await page.keyboard.press("Control+`")
        await page.wait_for_selector(".terminal-wrapper .xterm-screen")
        deadline = time.monotonic() + 60
        await page.locator(".terminal-wrapper .xterm-screen").click()
        # The shell reads what was typed before it was there.
        await page.keyboard.type(f"which python > {proof}; pwd >> {proof}; echo [$NODE_COMPILE_CACHE]end >> {proof}\n")
        while not (proof.exists() and proof.read_text().endswith("end\n")):
            assert time.monotonic() < deadline, "the terminal did nothing"
            await page.wait_for_timeout(50)
        await page.screenshot(path=SCREENSHOTS / "app-vscode-terminal.png")
        await browser.close()
    assert proof.read_text().split() == [code.place.interpreter, str(code.place.folder), "[]end"]
    active = await KINDS["vscode"].activity(code.place.socket)
    assert active is not None
    assert active.last == pytest.approx(time.time(), abs=120)


def test_byte_code_is_kept_for_the_next_start_and_made_anew_where_it_was_cut_short(
    vscode_tools: Path, small_environment: Path
) -> None:
    with short_folder() as folder:
        repository = folder / "repo"
        repository.mkdir()
        place = a_place(folder, "vscode", vscode_tools, small_environment, repository, folder / "s")
        for _ in range(2):
            with running_app("vscode", place, NO_REGISTRY) as code, code.client() as client:
                assert client.get("/", follow_redirects=True).status_code == 200
            kept = [each for each in (place.state / "compiled").rglob("*") if each.is_file()]
            assert len(kept) > 100
            for each in kept:
                os.truncate(each, each.stat().st_size // 2)


# ---- what stands around the server, with a server and an installer small enough to tell on themselves


PACKAGE = {
    "@coder/logger/index.js": "exports.logger = console",
    "compression/index.js": "module.exports = () => {}",
    "code-server/out/node/cli.js": """
exports.parse = (words) => ({ home: words[0], config: "none" })
exports.readConfigFile = async () => ({})
exports.setDefaults = async (given) => ({ ...given, "user-data-dir": "data", "extensions-dir": given.home })
""",
    "code-server/out/node/wrapper.js": """
exports.wrapper = { preventExit() {}, onDispose() {}, exit() { process.exit(1) } }
""",
    "code-server/out/node/main.js": """
exports.runCodeServer = (args) => new Promise((done, failed) => {
  const server = require("node:http").createServer()
  server.on("error", failed)
  server.listen(args.home + "/s", () => { console.log("listens"); done(server) })
})
""",
    "code-server/out/node/entry.js": """
const fs = require("node:fs"), words = process.argv.slice(2), name = words.at(-1)
const home = words[words.indexOf("--extensions-dir") + 1], answer = `${home}/answer-${name}`
if (process.env.CODE_SERVER_PARENT_PID) throw new Error("it would wait for a parent to speak to it")
fs.appendFileSync(`${home}/asked`, `${words.join(" ")}\n`)
if (fs.existsSync(answer)) { console.log(fs.readFileSync(answer, "utf8")); process.exit(1) }
""",
}


def launched(tools: Path, folder: Path, *extensions: str) -> subprocess.Popen[str]:
    for name, text in PACKAGE.items():
        file = folder / "node_modules" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    start = Path(vscode.__file__).with_name("vscode_start.cjs")
    places = [folder / "node_modules/code-server", folder / "compiled"]
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            [tools / "bin/node", start, *places, *extensions, "--", folder],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )


def ended(child: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait(10)


def asked(folder: Path) -> list[str]:
    file = folder / "asked"
    return [line.split()[-1] for line in file.read_text().splitlines()] if file.exists() else []


def test_extensions_are_asked_for_one_by_one_and_a_missing_one_is_named(vscode_tools: Path) -> None:
    with short_folder() as folder:
        (folder / "answer-no.such").write_text("Extension 'no.such' not found.\n")
        (folder / "ms-python.python-2026.1.0-universal").mkdir()
        (folder / "last.one-more-1.0.0").mkdir()
        child = launched(vscode_tools, folder, "ms-python.python", "no.such", "last.one")
        try:
            wait_for("no.such could not be installed: Extension 'no.such' not found.", folder / "log")
            while asked(folder) != ["no.such", "last.one"]:
                assert child.poll() is None
                time.sleep(0.02)
            assert (folder / "log").read_text().startswith("listens"), "the server comes first"
        finally:
            ended(child)


def test_where_no_registry_answers_the_rest_is_not_tried(vscode_tools: Path) -> None:
    with short_folder() as folder:
        (folder / "answer-a.a").write_text("getaddrinfo ENOTFOUND registry.invalid\n")
        child = launched(vscode_tools, folder, "a.a", "b.b")
        try:
            wait_for("no extension registry can be reached, so a.a, b.b stay away", folder / "log")
            assert asked(folder) == ["a.a"]
            assert child.poll() is None, "the server runs on"
        finally:
            ended(child)


def test_a_server_that_cannot_start_says_so_with_its_status(vscode_tools: Path) -> None:
    with short_folder() as folder:
        (folder / "s").touch()
        child = launched(vscode_tools, folder, "a.a")
        try:
            assert child.wait(30) == 1
            assert "address already in use" in (folder / "log").read_text()
            assert asked(folder) == []
        finally:
            ended(child)


def test_where_no_byte_code_can_be_kept_it_starts_all_the_same(vscode_tools: Path) -> None:
    with short_folder() as folder:
        (folder / "compiled").touch()
        child = launched(vscode_tools, folder)
        try:
            wait_for("listens", folder / "log")
        finally:
            ended(child)
