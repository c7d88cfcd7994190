"""A stopped workspace wakes by being used, through everything that lies in between."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect

from installation import Installation, left_behind, until
from studiolo.resources import Token

# Answers with its process id and with what it was sent; speaks a WebSocket's first words. It waits for a file before
# it listens, where it is told to, so that a test decides how long a start takes.
APP = """
import base64, hashlib, http.server, json, os, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.headers.get("Upgrade") == "websocket":
            key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            self.send_response(101)
            self.send_header("Upgrade", "websocket"); self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
            self.end_headers(); self.wfile.write(b"\\x81\\x05hello\\x88\\x00"); self.close_connection = True
            return
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        text = json.dumps({"pid": os.getpid(), "method": self.command, "path": self.path, "body": len(body),
                           "sum": hashlib.sha256(body).hexdigest(), "type": self.headers.get("Content-Type")}).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(text))); self.end_headers()
        self.wfile.write(text)
    do_POST = do_PUT = do_DELETE = do_GET
    def log_message(self, *_): pass
while os.path.exists(os.path.expanduser("~/hold")): time.sleep(0.02)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
DOCUMENT: dict[str, Any] = {
    "apps": [{"name": "web", "kind": "command", "command": [sys.executable, "-I", "-c", APP, "{port}"]}],
    "environment": {"packages": ["six"]},
}
MOZILLA = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/142.0 Safari/537.36"}
OPENS = {**MOZILLA, "Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
POLLS = {**MOZILLA, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    installation = Installation(tmp_path_factory.mktemp("waking") / "home")
    installation.up()
    yield installation
    installation.down()
    assert left_behind(installation.home) == []


@pytest.fixture(scope="module")
def token(installed: Installation) -> Token:
    installed.make({"name": "room", **DOCUMENT})
    installed.phase("room", "running")
    return installed.token("room")


@pytest.fixture
def asleep(installed: Installation, token: Token) -> Iterator[Token]:
    """The workspace `room`, stopped; what it was made to wait for is over afterwards."""
    let_go(installed)
    installed.run("stop", "room")
    installed.phase("room", "stopped")
    yield token
    let_go(installed)


def hold(installed: Installation, name: str = "room") -> None:
    """Have its app wait before it listens."""
    (installed.layout.workspace_home(installed.workspace(name).id) / "hold").touch()


def let_go(installed: Installation, name: str = "room") -> None:
    (installed.layout.workspace_home(installed.workspace(name).id) / "hold").unlink(missing_ok=True)


def under_way(installed: Installation, name: str = "room") -> None:
    until(lambda: installed.workspace(name).phase == "starting", 30, "its start")


def starts(installed: Installation, name: str = "room") -> list[int]:
    """The ids of the latest events that tell of a start."""
    with installed.client() as client:
        return [event.id for event in client.history(name) if event.kind == "starting"]


def wide(token: Token) -> httpx2.Client:
    """A program that has time, and keeps its connections."""
    return httpx2.Client(
        base_url=f"http://127.0.0.1:{token.url.rpartition(':')[2].strip('/')}",
        headers={"Host": token.url.split("/")[2], "Authorization": f"token {token.token}"},
        timeout=90,
        trust_env=False,
    )


def test_a_person_sees_the_app_itself_where_that_is_soon_there(installed: Installation, asleep: Token) -> None:
    answer = installed.get(asleep, "/lab?x=y", headers=OPENS)
    if answer.status_code == 503:  # a busy machine: then it is the waking page, and the app a moment later
        assert "The page opens by itself" in answer.text
        answer = until(lambda: (found := installed.get(asleep, "/lab?x=y", headers=OPENS)).status_code == 200 and found)
    assert answer.json()["path"] == "/lab?x=y"


def test_a_person_sees_how_far_it_is_where_it_takes_longer(installed: Installation, asleep: Token) -> None:
    hold(installed)
    page = installed.get(asleep, "/lab", headers=OPENS)
    assert page.status_code == 503
    assert page.headers["content-type"].startswith("text/html")
    assert 'data-stage="ready"' in page.text
    assert "since it was asked for" in page.text

    with wide(asleep) as client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.get, "/.studiolo/ready", headers=POLLS)
        let_go(installed)
        assert waiting.result().status_code == 204
    assert installed.get(asleep, "/lab", headers=OPENS).json()["path"] == "/lab"


@pytest.mark.parametrize(
    ("method", "headers", "body"),
    [
        ("GET", {}, b""),
        ("DELETE", POLLS, b""),
        ("POST", {"Content-Type": "application/json"}, b'{"a": 1}'),
        ("PUT", {**POLLS, "Content-Type": "a/b"}, b"x" * 20_000_000),
    ],
)
def test_what_is_done_wakes_it_and_arrives_whole(
    installed: Installation, asleep: Token, method: str, headers: dict[str, str], body: bytes
) -> None:
    with wide(asleep) as client:
        answer = client.request(method, "/do?x=y", headers=headers, content=body or None)
    assert answer.status_code == 200
    found = answer.json()
    assert (found["method"], found["path"], found["body"]) == (method, "/do?x=y", len(body))
    assert found["type"] == headers.get("Content-Type")


def test_who_gives_up_on_a_start_does_not_spoil_it_for_who_comes_next(installed: Installation, asleep: Token) -> None:
    hold(installed)
    with wide(asleep) as client, ThreadPoolExecutor(1) as pool:
        with pytest.raises(httpx2.ReadTimeout):
            client.post("/", content=b"x", timeout=1)
        sockets = installed.layout.app_sockets(installed.workspace("room").id)
        until((sockets / "web.sock").exists, 30, "a socket that nobody is behind")
        with pytest.raises(httpx2.ReadTimeout):
            client.post("/", content=b"x", timeout=1)
        waiting = pool.submit(client.post, "/", content=b"three")
        let_go(installed)
        answer = waiting.result()
    assert (answer.status_code, answer.json()["body"]) == (200, 5)


def test_a_programs_websocket_wakes_it(installed: Installation, asleep: Token) -> None:
    async def scenario() -> None:
        async with connect(
            f"ws://{asleep.url.split('/')[2]}/channels",
            host="127.0.0.1",
            port=installed.port,
            additional_headers={"Authorization": f"token {asleep.token}"},
            proxy=None,
            open_timeout=60,
        ) as connection:
            assert await connection.recv() == "hello"

    asyncio.run(scenario())


def test_a_page_left_open_does_not_wake_it_and_is_told_why(installed: Installation, asleep: Token) -> None:
    before = starts(installed)
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Origin": asleep.url.strip("/")}
    for headers in (POLLS, {**MOZILLA, "Accept": "*/*"}, {**MOZILLA, **upgrade}, {**OPENS, "Sec-Purpose": "prefetch"}):
        answer = installed.get(asleep, "/api/kernels", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (503, "stopped")
        assert answer.headers["content-type"] == PROBLEM
    assert installed.workspace("room").desired == "stopped"
    assert starts(installed) == before


def test_a_page_left_open_is_held_while_it_is_on_its_way(installed: Installation, asleep: Token) -> None:
    hold(installed)
    with installed.client() as client:
        client.start("room")
    under_way(installed)
    with wide(asleep) as client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.get, "/api/kernels", headers=POLLS)
        let_go(installed)
        assert waiting.result().json()["path"] == "/api/kernels"


def test_many_wake_it_once(installed: Installation, asleep: Token) -> None:
    before = starts(installed)
    with wide(asleep) as client, ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda number: client.post(f"/{number}", content=b"x"), range(20)))
    assert [answer.status_code for answer in answers] == [200] * 20
    assert len({answer.json()["pid"] for answer in answers}) == 1
    assert len(set(starts(installed)) - set(before)) == 1


def test_so_many_wait_and_no_more(installed: Installation, asleep: Token) -> None:
    hold(installed)
    with wide(asleep) as client, ThreadPoolExecutor(70) as pool:
        waiting = [pool.submit(client.get, f"/{number}") for number in range(70)]

        def refused() -> list[Future[httpx2.Response]]:
            return [each for each in waiting if each.done()]

        until(lambda: len(refused()) == 6, 30, "the refusal of those above the bound")
        for each in refused():
            assert each.result().json()["code"] == "too-many-waiting"
            assert each.result().headers["retry-after"] == "5"
        page = client.get("/", headers=OPENS)
        assert "The page opens by itself" in page.text
        let_go(installed)
        assert sorted(each.result().status_code for each in waiting) == [200] * 64 + [503] * 6


def test_who_opens_one_of_many_sees_its_place_in_the_queue(installed: Installation) -> None:
    names = [f"crowd-{number}" for number in range(max(2, os.cpu_count() or 2) + 1)]
    for name in names:
        installed.make({**DOCUMENT, "name": name}, start=False)
        (installed.layout.workspace_home(installed.workspace(name).id)).mkdir(parents=True, exist_ok=True)
        hold(installed, name)
        assert installed.get(installed.token(name), headers=OPENS).status_code == 503
    last = installed.token(names[-1])
    until(lambda: "number 1 in the queue" in installed.get(last, headers=OPENS).text, 60, "its place")
    for name in names:
        let_go(installed, name)
    with wide(last) as client:
        assert client.get("/").status_code == 200
    for name in names:
        installed.run("rm", "--purge", "--yes", name)


def test_it_stops_and_starts_again_for_who_comes_meanwhile(installed: Installation) -> None:
    """Its app takes a second to end."""
    slow = APP.replace(
        "while os", "import signal\nsignal.signal(15, lambda *_: (time.sleep(1), os._exit(0)))\nwhile os"
    )
    app = {"name": "web", "kind": "command", "command": [sys.executable, "-I", "-c", slow, "{port}"]}
    installed.make({**DOCUMENT, "name": "lingers", "apps": [app]})
    installed.phase("lingers", "running")
    token = installed.token("lingers")
    before = installed.get(token).json()["pid"]
    with installed.client() as client:
        client.stop("lingers")
    until(lambda: installed.workspace("lingers").phase == "stopping", 10)
    with installed.client() as client, wide(token) as program:
        client.start("lingers")
        answer = until(lambda: (found := program.get("/")).status_code == 200 and found)
    assert answer.json()["pid"] != before
    installed.run("rm", "--purge", "--yes", "lingers")


def test_an_app_that_ends_at_once_makes_no_loop(installed: Installation) -> None:
    ends = "print('no such thing'); raise SystemExit(3)"
    app = {"name": "web", "kind": "command", "command": [sys.executable, "-c", ends, "{port}"]}
    installed.make({**DOCUMENT, "name": "broken", "apps": [app]}, start=False)
    installed.phase("broken", "stopped")
    token = installed.token("broken")
    with wide(token) as client:
        first = client.post("/", content=b"x" * 100_000)  # wakes it, and hears what became of that
        assert first.status_code == 503
        assert first.json()["code"] in ("app-failed", "workspace-failed")
        assert "no such thing" in first.json()["detail"]
        installed.phase("broken", "failed")
        before = starts(installed, "broken")
        for headers in (OPENS, POLLS, {}):
            answer = client.get("/", headers=headers)
            assert answer.status_code == 503
            assert "no such thing" in answer.text
        page = client.get("/", headers=OPENS).text
    assert "Start again" in page
    assert f"{installed.origin}/workspaces/broken/logs?app=web" in page
    assert "http-equiv" not in page
    assert installed.workspace("broken").phase == "failed"
    assert starts(installed, "broken") == before
    installed.run("rm", "--purge", "--yes", "broken")


def test_what_is_deleted_is_not_there_any_more(installed: Installation) -> None:
    installed.make({"name": "gone", **DOCUMENT}, start=False)
    token = installed.token("gone")
    installed.run("rm", "--purge", "--yes", "gone")
    until(lambda: "gone" not in [each["name"] for each in installed.json("ps")], 30)
    for headers in ({}, POLLS):
        assert installed.get(token, headers=headers).status_code == 401
    page = installed.get(token, headers=OPENS)
    assert page.status_code == 303


def test_who_waits_for_what_is_then_deleted_hears_of_it(installed: Installation) -> None:
    installed.make({"name": "doomed", **DOCUMENT})
    installed.phase("doomed", "running")
    token = installed.token("doomed")
    installed.run("stop", "doomed")
    hold(installed, "doomed")
    with wide(token) as client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.post, "/", content=b"x")
        under_way(installed, "doomed")
        installed.run("rm", "--purge", "--yes", "doomed")
        assert waiting.result().status_code == 404


def test_who_waits_while_it_is_stopped_again_hears_of_it(installed: Installation, asleep: Token) -> None:
    hold(installed)
    with wide(asleep) as client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.get, "/.studiolo/ready", headers=POLLS)
        assert waiting.result().json()["code"] == "stopped"
        with installed.client() as studio:
            studio.start("room")
        under_way(installed)
        waiting = pool.submit(client.get, "/api/kernels", headers=POLLS)
        installed.run("stop", "room")
        assert waiting.result().json()["code"] == "stopped"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_who_waits_does_not_undo_a_stop(installed: Installation, asleep: Token, method: str) -> None:
    hold(installed)
    with wide(asleep) as client, ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.request, method, "/")
        under_way(installed)
        second = pool.submit(client.request, method, "/")
        with pytest.raises(httpx2.ReadTimeout):  # as long as these two have been waiting by then
            client.request(method, "/", timeout=1)
        installed.run("stop", "room")
        for waiting in (first, second):
            assert (waiting.result().status_code, waiting.result().json()["code"]) == (503, "stopped")
    assert installed.workspace("room").desired == "stopped"


def test_a_crashed_app_is_waited_for(installed: Installation, asleep: Token) -> None:
    with wide(asleep) as client:
        before = client.get("/").json()["pid"]
        hold(installed)
        installed.run("exec", "room", "--", "kill", "-9", str(before))
        until(lambda: installed.workspace("room").apps[0].state == "restarting", 30, "that it is missed")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(client.post, "/", content=b"four")
            let_go(installed)
            answer = waiting.result()
    assert answer.status_code == 200
    assert answer.json()["pid"] != before


def test_rescue_is_waited_for_too(installed: Installation, asleep: Token) -> None:
    with installed.client() as client:
        client.start("room", rescue=True)
    assert installed.get(asleep).status_code == 200
    assert installed.workspace("room").rescue


def test_the_way_through_sign_in_starts_it_at_the_first_step(installed: Installation, asleep: Token) -> None:
    link = installed.json("link")["url"]
    with httpx2.Client(base_url=f"http://127.0.0.1:{installed.port}", trust_env=False, timeout=60) as jar:
        host = {"Host": f"localhost:{installed.port}"}
        signed = jar.get(link.partition(str(installed.port))[2], headers=host)
        cookie = signed.headers["set-cookie"].partition(";")[0]
        label = asleep.url.split("/")[2].partition(".")[0]
        way = jar.get(f"/authorize?label={label}", headers={**host, "Cookie": cookie})
        assert way.status_code == 303
        assert installed.workspace("room").desired == "running"


def test_who_holds_no_grant_wakes_nothing(installed: Installation, asleep: Token) -> None:
    host = asleep.url.split("/")[2]
    other = asleep.model_copy(update={"token": "x" * 43})
    for token in (None, other):
        for headers in ({}, POLLS):
            answer = installed.request("POST", token, "/", host=host, headers=headers, content=b"x" * 1_000_000)
            assert (answer.status_code, answer.json()["code"]) == (401, "no-grant")
        assert installed.request("GET", token, "/", host=host, headers=OPENS).status_code == 303
    assert installed.workspace("room").desired == "stopped"


def test_the_control_plane_may_go_and_come_while_a_request_waits(installed: Installation, asleep: Token) -> None:
    hold(installed)
    with wide(asleep) as client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.get, "/")
        under_way(installed)
        installed.kill("control")
        answer = waiting.result()
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        installed.up()
        let_go(installed)
        assert client.get("/").status_code == 200
    assert json.loads(installed.run("ps", "--json").stdout)


def test_what_comes_while_everything_is_shut_down_starts_nothing(installed: Installation) -> None:
    """Programs come again and again, and the app takes two seconds to end."""
    slow = APP.replace(
        "while os", "import signal\nsignal.signal(15, lambda *_: (time.sleep(2), os._exit(0)))\nwhile os"
    )
    app = {"name": "web", "kind": "command", "command": [sys.executable, "-I", "-c", slow, "{port}"]}
    installed.make({**DOCUMENT, "name": "lingers", "apps": [app]})
    installed.phase("lingers", "running")
    installed.make({**DOCUMENT, "name": "rests"}, start=False)
    installed.phase("rests", "stopped")
    tokens = [installed.token("lingers"), installed.token("rests")]
    installed.make({**DOCUMENT, "name": "held"}, start=False)
    installed.layout.workspace_home(installed.workspace("held").id).mkdir(parents=True, exist_ok=True)
    hold(installed, "held")
    token = installed.token("held")
    told: list[str] = []
    over = Event()

    def come_again(token: Token) -> None:
        with wide(token) as client:
            while not over.is_set():
                with contextlib.suppress(httpx2.TransportError, ValueError):  # the edge ends too
                    told.append(client.post("/", content=b"x").json().get("code", ""))
                over.wait(0.05)

    with wide(token) as client, ThreadPoolExecutor(3) as pool:
        held = pool.submit(client.post, "/", content=b"x")
        under_way(installed, "held")
        try:
            down = pool.submit(installed.down)
            until(lambda: installed.workspace("lingers").desired == "stopped", 30, "the first of it")
            for each in tokens:
                pool.submit(come_again, each)
            down.result()
        finally:
            over.set()
        assert held.result().json()["code"] == "stopped"
    assert "shutting-down" in told
    log = (installed.layout.logs / "control-plane.log").read_text()
    assert "not every workspace has ended in time" not in log
    installed.up()
    found = {each.name: (each.desired, each.phase) for each in map(installed.workspace, ("lingers", "rests", "held"))}
    assert found == dict.fromkeys(("lingers", "rests", "held"), ("stopped", "stopped"))
