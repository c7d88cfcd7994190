"""Things that go wrong, done on purpose to a real installation. Nobody loses work, and everything is said plainly."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import websockets

from installation import ECHO, Installation, echo, left_behind, until
from studiolo.daemon import Identity

TINY = {"packages": ["six"]}


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Installation]:
    installation = Installation(tmp_path / "home")
    installation.up()
    yield installation
    installation.down()
    assert left_behind(installation.home) == []


def make_echo(installed: Installation, name: str = "room", **more: object) -> str:
    """A running workspace; what its app answers (its process id)."""
    installed.make({"name": name, "apps": [echo()], "environment": TINY, **more})
    installed.phase(name, "running")
    return installed.get(installed.token(name)).text


def test_no_session_notices_the_death_of_the_control_plane(installed: Installation) -> None:
    """With an open kernel WebSocket, through the edge; the next control plane adopts what runs."""
    installed.make({"name": "lab", "apps": ["jupyterlab"], "environment": TINY})
    installed.phase("lab", "running", seconds=240)
    token = installed.token("lab")
    kernel = installed.request("POST", token, "/api/kernels", json={}).json()["id"]
    host = token.url.split("/")[2]

    async def scenario() -> None:
        async with websockets.connect(
            f"ws://{host}/api/kernels/{kernel}/channels",
            host="127.0.0.1",
            port=installed.port,
            additional_headers={"Authorization": f"token {token.token}"},
        ) as channel:
            assert await execute(channel, "x = 20 + 1; print(x * 2)") == "42\n"
            await asyncio.to_thread(installed.kill, "control")
            assert await execute(channel, "print(x)") == "21\n"
            assert installed.get(token, "/api/status").status_code == 200
            begun = time.monotonic()
            await asyncio.to_thread(installed.up)
            assert (await asyncio.to_thread(installed.workspace, "lab")).phase == "running"
            assert time.monotonic() - begun < 60
            assert await execute(channel, "print(x + 1)") == "22\n"

    asyncio.run(scenario())


async def execute(channel: websockets.ClientConnection, code: str) -> str:
    """Run code in a kernel over its channel; what it printed."""
    content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
    header = {"username": "", "session": "s", "version": "5.3", "date": "", "msg_type": "execute_request"}
    header["msg_id"] = f"m{time.monotonic_ns()}"
    request = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    await channel.send(json.dumps(request))
    printed = ""
    async with asyncio.timeout(60):
        while True:
            message = json.loads(await channel.recv())
            if message["parent_header"].get("msg_id") != header["msg_id"]:
                continue
            if message["msg_type"] == "stream":
                printed += message["content"]["text"]
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return printed


def test_the_host_agent_is_killed_and_nobody_notices(installed: Installation) -> None:
    before = make_echo(installed)
    installed.kill("agent")
    assert installed.get(installed.token("room")).text == before
    until(lambda: installed.runs("agent"), 15, "a new host agent")
    until(lambda: installed.workspace("room").phase == "running", 15)
    assert installed.get(installed.token("room")).text == before
    installed.run("stop", "room")
    installed.phase("room", "stopped")
    assert Identity.of(int(before)) is None


@pytest.mark.parametrize("part", ["edge", "relay"])
def test_the_edge_comes_back_by_itself(installed: Installation, part: str) -> None:
    before = make_echo(installed)
    token = installed.token("room")
    installed.kill(part)

    def answers() -> bool:
        try:
            return installed.runs(part) and installed.get(token).text == before
        except httpx2.HTTPError:
            return False

    until(answers, 15, "the edge's return")


def test_a_killed_app_is_started_again_and_the_history_says_so(installed: Installation) -> None:
    before = make_echo(installed)
    os.kill(int(before), 9)
    token = installed.token("room")

    def answers_anew() -> bool:
        answer = installed.get(token)
        return answer.status_code == 200 and answer.text != before

    until(answers_anew, 30, "the app's return")
    with installed.client() as client:
        until(lambda: "app-restarted" in [event.kind for event in client.history("room")], 10)


@pytest.mark.parametrize("moment", ["building", "starting", "stopping"])
def test_the_control_plane_is_killed_at_every_phase(installed: Installation, moment: str) -> None:
    """What was desired comes about all the same, once, and nothing is left over."""
    slow = f"import time; time.sleep(3)\n{ECHO}"
    app = {"name": "slow", "kind": "command", "command": [sys.executable, "-I", "-c", slow, "{port}"]}
    packages = ["six", "idna", f"sniffio=={'1.3.1'}"] if moment == "building" else ["six"]
    installed.make({"name": "room", "apps": [app], "environment": {"packages": packages}})
    if moment == "stopping":
        installed.phase("room", "running")
        installed.run("stop", "room")
    else:
        installed.phase("room", moment, "running")
    installed.kill("control")
    installed.up()
    wanted = "stopped" if moment == "stopping" else "running"
    installed.phase("room", wanted)
    with installed.client() as client:
        pid = client.workspace("room").id
    copies = [each for each in left_behind(installed.home) if "time.sleep(3)" in each]
    assert len(copies) == (0 if wanted == "stopped" else 1), pid


def test_a_package_that_does_not_exist_fails_with_a_reason(installed: Installation) -> None:
    installed.make({"name": "typo", "apps": [echo()], "environment": {"packages": ["studiolo-no-such-package-at-all"]}})
    failed = installed.phase("typo", "failed")
    assert failed.reason is not None
    assert "studiolo-no-such-package-at-all" in failed.reason.message
    assert failed.reason.hint
    installed.make({"name": "typo", "apps": [echo()], "environment": TINY}, replace=True)
    installed.phase("typo", "running", "pending", "building", "starting")
    until(lambda: installed.workspace("typo").phase == "running", 60)


def test_an_app_that_never_becomes_ready_fails_with_its_last_lines(installed: Installation) -> None:
    silent = "import time; print('loading the model', flush=True); time.sleep(600)"
    app = {"name": "silent", "kind": "command", "command": [sys.executable, "-c", silent, "{port}"], "timeout": "2s"}
    installed.make({"name": "silent", "apps": [app], "environment": TINY})
    failed = installed.phase("silent", "failed")
    assert failed.reason is not None
    assert "loading the model" in failed.reason.message
    assert [each for each in left_behind(installed.home) if "loading the model" in each] == []


def test_an_app_that_exits_fails_with_its_status(installed: Installation) -> None:
    app = {"name": "bad", "kind": "command", "command": [sys.executable, "-c", "print('no config'); exit(3)", "{port}"]}
    installed.make({"name": "bad", "apps": [app], "environment": TINY})
    failed = installed.phase("bad", "failed")
    assert failed.reason is not None
    assert "3" in failed.reason.message
    assert "no config" in failed.reason.message


def test_a_repository_that_cannot_be_reached(installed: Installation) -> None:
    installed.make({"name": "far", "apps": [echo()], "repository": "https://git.invalid/team/project.git"})
    failed = installed.phase("far", "failed")
    assert failed.reason is not None
    assert failed.reason.code == "clone-failed"
    assert "git.invalid" in failed.reason.message
    assert list(Path(failed.home).iterdir()) == []


def test_a_home_that_cannot_be_written_still_starts_and_says_so(installed: Installation) -> None:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a home that is full needs a small file system, and only root can mount one")
    installed.make({"name": "full", "apps": ["jupyterlab"], "environment": TINY})
    home = Path(installed.phase("full", "running", seconds=240).home)
    installed.run("stop", "full")
    installed.phase("full", "stopped")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(home)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"this host lets nobody mount: {mounted.stderr.decode().strip()}")
    try:
        filling = os.open(home / "filling", os.O_CREAT | os.O_WRONLY)
        with contextlib.suppress(OSError):
            while True:
                os.write(filling, b"x" * 4096)
        os.close(filling)
        installed.run("start", "full")
        shown = installed.phase("full", "running")
        assert any("home" in note for note in shown.notes)
        assert installed.get(installed.token("full"), "/api/status").status_code == 200
        installed.run("stop", "full")
        installed.phase("full", "stopped")
    finally:
        subprocess.run(["umount", "-l", str(home)], check=True)


def test_the_port_is_taken(tmp_path: Path) -> None:
    installation = Installation(tmp_path / "home")
    installation.home.mkdir()
    with socket.create_server(("127.0.0.1", installation.port)):
        done = installation.run("up", "--detach", "--no-browser", "--port", str(installation.port), check=False)
    assert done.returncode == 1
    assert str(installation.port) in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr
    until(lambda: left_behind(installation.home) == [], 10, "nothing left over")


def test_a_stale_pid_file_of_another_program_harms_nobody(installed: Installation) -> None:
    installed.down()
    bystander = subprocess.Popen(["sleep", "600"])
    try:
        for part in ("control", "agent", "edge", "relay"):
            (installed.layout.run / f"{part}.pid").write_text(json.dumps({"pid": bystander.pid, "started": 1}))
        installed.up()
        assert make_echo(installed).isdigit()
        installed.down()
        assert bystander.poll() is None
        installed.up()
    finally:
        bystander.kill()
        bystander.wait()


def test_what_ran_before_down_rests_and_wakes_on_request(installed: Installation) -> None:
    before = make_echo(installed)
    installed.down()
    assert Identity.of(int(before)) is None
    installed.up()
    assert installed.workspace("room").phase == "stopped"
    installed.run("start", "room")
    installed.phase("room", "running")


def test_an_unused_workspace_stops_and_says_why(installed: Installation) -> None:
    make_echo(installed, idle={"after": "1s"})
    installed.phase("room", "stopped", seconds=90)
    with installed.client() as client:
        assert any(event.kind == "idle" and "unused for" in event.message for event in client.history("room"))
