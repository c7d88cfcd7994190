"""The real JupyterLab, started from its declaration, with kernels and terminals of a real environment."""

from __future__ import annotations

import asyncio
import json
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import async_playwright
from websockets.asyncio.client import unix_connect

from running_app import BROWSER, SCREENSHOTS, RunningApp, a_place, on_a_port, running_app, short_folder
from studiolo.apps.app import Activity, Place
from studiolo.apps.kinds import KINDS

pytestmark = pytest.mark.timeout(600)

NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# The notebook"},
        {
            "cell_type": "code",
            "id": "b",
            "metadata": {},
            "source": "import six, ipywidgets\nipywidgets.IntSlider(description='slide me')",
            "execution_count": None,
            "outputs": [],
        },
    ],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def place(folder: Path, jupyter_tools: Path, small_environment: Path) -> Place:
    repository = folder / "repo"
    repository.mkdir()
    (repository / "first look.ipynb").write_text(json.dumps(NOTEBOOK))
    (repository / "README.md").write_text("# The readme\n")
    (repository / ".hidden").mkdir()
    return a_place(folder, "jupyterlab", jupyter_tools, small_environment, repository, folder / "lab.sock")


@pytest.fixture(scope="module")
def lab(folder: Path, place: Place) -> Iterator[RunningApp]:
    # Meant for the workspace's Python: the server's own would not start with it.
    mine = folder / "mine"
    mine.mkdir()
    (mine / "jupyterlab.py").write_text("raise RuntimeError('not for the server')")
    (mine / "sitecustomize.py").write_text(
        "import os; os.environ['SEEN_BY'] = os.environ.get('SEEN_BY', '') + 'kernel'"
    )
    with running_app("jupyterlab", place, {"PYTHONPATH": str(mine)}) as app:
        yield app


async def activity(app: RunningApp) -> Activity:
    found = await KINDS["jupyterlab"].activity(app.place.socket)
    assert found is not None
    return found


async def run(app: RunningApp, kernel: str, code: str, until: str = "idle") -> str:
    """What the code prints, once its kernel is in the given state again."""
    path = f"ws://localhost/api/kernels/{kernel}/channels?session_id={uuid.uuid4().hex}"
    async with asyncio.timeout(60), unix_connect(str(app.place.socket), path, max_size=None) as channel:
        request: dict[str, Any] = {
            "header": {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "username": "", "session": "s"},
            "parent_header": {},
            "metadata": {},
            "content": {"code": code, "silent": False},
            "channel": "shell",
        }
        await channel.send(json.dumps(request))
        printed = ""
        async for raw in channel:
            message = json.loads(raw)
            if message["parent_header"].get("msg_id") != request["header"]["msg_id"]:
                continue
            assert message["msg_type"] != "error", message["content"]
            printed += message["content"].get("text", "") if message["msg_type"] == "stream" else ""
            if message["msg_type"] == "status" and message["content"]["execution_state"] == until:
                return printed
    raise AssertionError("the kernel went away")


def test_only_its_owner_can_reach_it(lab: RunningApp) -> None:
    assert stat.S_IMODE(lab.place.socket.stat().st_mode) == 0o600


def test_the_first_page_is_the_notebook(lab: RunningApp) -> None:
    with lab.client() as client:
        answer = client.get("/")
        assert answer.status_code == 302
        assert answer.headers["location"].rstrip("?") == "/lab/tree/first%20look.ipynb"
        assert client.get(answer.headers["location"]).status_code == 200


def test_the_only_kernel_is_the_workspaces(lab: RunningApp) -> None:
    with lab.client() as client:
        listed = client.get("/api/kernelspecs").json()
    assert listed["default"] == "python3"
    assert list(listed["kernelspecs"]) == ["python3"]
    spec = listed["kernelspecs"]["python3"]["spec"]
    assert spec["argv"][0] == lab.place.interpreter
    assert spec["display_name"] == "demo (Python 3)"


async def test_kernels_run_in_the_environment_and_are_seen_to_be_busy(lab: RunningApp) -> None:
    with lab.client() as client:
        made = client.post("/api/kernels", json={"name": "python3"})
        assert made.status_code == 201, made.text
        kernel = made.json()["id"]
    code = "import sys, os, six; print(sys.prefix, os.environ['SEEN_BY'], os.getcwd())"
    prefix, seen_by, cwd = (await run(lab, kernel, code)).split()
    assert lab.place.interpreter is not None
    assert prefix == str(Path(lab.place.interpreter).parents[1])
    assert seen_by == "kernel"
    assert cwd == str(lab.place.folder)

    gate = lab.place.home / "gate"
    waiting = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.05)"
    task = asyncio.create_task(run(lab, kernel, waiting))
    async with asyncio.timeout(30):
        while not (busy := await activity(lab)).busy:
            await asyncio.sleep(0.05)
    assert busy.why == "a kernel is busy"
    assert busy.last is not None
    gate.touch()
    await task
    async with asyncio.timeout(30):
        while (await activity(lab)).busy:
            await asyncio.sleep(0.05)
    with lab.client() as client:
        assert client.delete(f"/api/kernels/{kernel}").status_code == 204


async def test_asking_after_activity_is_none(lab: RunningApp) -> None:
    with lab.client() as client:
        client.get("/api/contents")
    first = await activity(lab)
    assert first.last is not None
    for _ in range(3):
        assert (await activity(lab)).last == first.last


async def test_terminals_are_in_the_environment(lab: RunningApp) -> None:
    with lab.client() as client:
        name = client.post("/api/terminals").json()["name"]
    seen = ""
    path = f"ws://localhost/terminals/websocket/{name}"
    async with asyncio.timeout(60), unix_connect(str(lab.place.socket), path) as channel:
        await channel.send(
            json.dumps(["stdin", "echo at=$(which python) [$JUPYTER_CONFIG_PATH$JUPYTER_PATH] in=$(pwd)\r"])
        )
        while "in=/" not in seen:
            kind, *rest = json.loads(await channel.recv())
            seen += rest[0] if kind == "stdout" else ""
    assert f"at={lab.place.interpreter}" in seen
    assert "[]" in seen, "a Jupyter started in a terminal is not configured like this one"
    with lab.client() as client:
        client.delete(f"/api/terminals/{name}")


def test_what_people_set_wins_and_stays_in_their_home(lab: RunningApp) -> None:
    address = "/lab/api/settings/@jupyterlab/apputils-extension:notification"
    with lab.client() as client:
        before = client.get(address).json()
        assert before["schema"]["properties"]["fetchNews"]["default"] == "false"
        assert before["schema"]["properties"]["checkForUpdates"]["default"] is False
        assert client.put(address, json={"raw": '{"checkForUpdates": true}'}).status_code == 204
        assert client.get(address).json()["settings"] == {"checkForUpdates": True}
        client.put(address, json={"raw": "{}"})
    kept = list((lab.place.home / ".jupyter/lab/user-settings").rglob("notification*"))
    assert len(kept) == 1


def test_nothing_calls_out_or_offers_what_cannot_be_done(lab: RunningApp) -> None:
    with lab.client() as client:
        page = client.get("/lab").text
    config = json.loads(page.partition('id="jupyter-config-data"')[2].partition(">")[2].partition("</script>")[0])
    assert config["news"] == {"disabled": True}
    assert config["buildCheck"] is False
    assert "@jupyterlab/extensionmanager-extension" in json.dumps(config["disabledExtensions"])
    assert [each["name"] for each in config["federated_extensions"] if "widgets" in each["name"]]


def test_the_tools_are_left_as_they_were(lab: RunningApp, jupyter_tools: Path) -> None:
    began = (lab.place.state / "start.py").stat().st_mtime
    changed = [path for path in (jupyter_tools / "share").rglob("*") if path.stat().st_mtime > began]
    assert changed == []


async def test_where_nobody_answers_nothing_is_known(folder: Path) -> None:
    assert await KINDS["jupyterlab"].activity(folder / "nobody.sock") is None
    assert await KINDS["vscode"].activity(folder / "nobody.sock") is None
    assert await KINDS["command"].activity(folder / "nobody.sock") is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'"x"', b"null", b"[" * 100_000, b'{"lastHeartbeat": "soon"}'])
@pytest.mark.parametrize("kind", ["jupyterlab", "vscode"])
async def test_nonsense_is_no_evidence(kind: str, body: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    with short_folder() as folder:
        async with await asyncio.start_unix_server(answer, str(folder / "odd.sock")):
            found = await KINDS[kind].activity(folder / "odd.sock")
    assert found is None or (found.last is None and not found.busy)


async def test_an_app_that_never_ends_its_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studiolo.apps.asking._PATIENCE", 0.3)

    gone = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"1\r\n \r\n")
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            writer.close()
            gone.set()

    with short_folder() as folder:
        async with await asyncio.start_unix_server(drip, str(folder / "slow.sock")), asyncio.timeout(10):
            assert await KINDS["jupyterlab"].activity(folder / "slow.sock") is None
            await gone.wait()


@pytest.mark.browser
async def test_first_sight_is_quiet_and_cells_run(lab: RunningApp) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    outside: list[str] = []
    async with on_a_port(lab.place) as origin, async_playwright() as playwright:
        browser = await playwright.chromium.launch(**BROWSER)  # type: ignore[arg-type]
        page = await browser.new_page(viewport={"width": 1280, "height": 850})
        page.set_default_timeout(90_000)
        page.on("request", lambda request: outside.append(request.url) if ".localhost" not in request.url else None)
        await page.goto(origin)
        await page.wait_for_selector(".jp-RenderedMarkdown h1:has-text('The notebook')")
        await page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]")
        await page.screenshot(path=SCREENSHOTS / "app-jupyterlab-first-sight.png")
        assert await page.locator(".jp-Dialog, .Toastify__toast").count() == 0
        listed = await page.locator(".jp-DirListing-itemText").all_inner_texts()
        assert listed == ["first look.ipynb", "README.md"]
        await page.get_by_role("menuitem", name="Run", exact=True).click()
        await page.get_by_text("Run All Cells", exact=True).click()
        await page.wait_for_selector(".jp-OutputArea-output .widget-slider")
        await page.goto(f"{origin}/lab/tree/README.md")
        await page.wait_for_selector(".jp-MarkdownViewer h1:has-text('The readme')")
        await page.screenshot(path=SCREENSHOTS / "app-jupyterlab-readme.png")
        await browser.close()
    assert [url for url in outside if not url.startswith(("data:", "blob:"))] == []
