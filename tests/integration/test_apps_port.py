"""Ports of programs that people run: passed on as they are, and a page that says so where nobody listens."""

from __future__ import annotations

import contextlib
import http.server
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from websockets.asyncio.client import unix_connect
from websockets.asyncio.server import ServerConnection, serve

from installation import free_port
from running_app import RunningApp, a_place, running_app, short_folder
from studiolo.apps.port_forwarder import READY


@pytest.fixture(scope="module")
def app() -> Iterator[RunningApp]:
    with short_folder() as base:
        place = a_place(base, "port", base, Path(sys.prefix), base, base / "port.sock")
        with running_app("port", place, port=free_port()) as app:
            yield app


def port_of(app: RunningApp) -> int:
    return int(app.process.argv[-1])


class Program(http.server.BaseHTTPRequestHandler):
    """Sends back what it was sent; `/slowly` sends the second half only once somebody has seen the first."""

    protocol_version = "HTTP/1.1"
    seen = threading.Event()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Host", self.headers["Host"])
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "10")
        self.end_headers()
        self.wfile.write(b"first")
        if self.path == "/dies":
            self.close_connection = True
            return
        assert self.path != "/slowly" or self.seen.wait(30)
        self.wfile.write(b"later")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def program(port: int) -> Iterator[None]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Program)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_where_nobody_listens_a_page_says_so(app: RunningApp) -> None:
    with app.client() as client:
        found = client.get("/some/path?with=query")
        assert found.status_code == 502
        assert f"Nothing listens on port {port_of(app)} yet" in found.text
        assert '<meta http-equiv="refresh"' in found.text
        assert found.headers["cache-control"] == "no-store"
        # what was still to be sent does not take the answer away
        assert client.post("/", content=b"x" * 3_000_000).status_code == 502
    assert stat.S_IMODE(app.place.socket.stat().st_mode) == 0o600


def test_it_is_ready_whether_or_not_somebody_listens(app: RunningApp) -> None:
    with app.client() as client:
        assert client.get(READY).status_code == 204
    with program(port_of(app)), app.client() as client:
        assert client.get(READY).status_code == 204
        assert client.get("/").text == "firstlater"
    with app.client() as client:
        assert client.get("/").status_code == 502


def test_what_a_program_says_is_passed_on_as_it_comes(app: RunningApp) -> None:
    with program(port_of(app)), app.client() as client:
        large = bytes(range(256)) * 20_000
        sent = client.post("/", content=large)
        assert sent.content == large
        assert sent.headers["x-host"] == "port--demo--ada.localhost", "names are the program's to judge"
        with client.stream("GET", "/slowly") as answer:
            pieces = answer.iter_raw()
            assert next(pieces) == b"first"
            Program.seen.set()
            assert b"".join(pieces) == b"later"


def test_a_program_that_breaks_off_breaks_off(app: RunningApp) -> None:
    with program(port_of(app)), app.client() as client:
        with pytest.raises(httpx2.RemoteProtocolError):
            client.get("/dies")
        assert client.get("/").text == "firstlater"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_websockets_pass_on_either_loopback_address(app: RunningApp, address: str) -> None:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    try:
        server = await serve(echo, address, port_of(app))
    except OSError as error:
        pytest.skip(f"this machine has no {address}: {error}")
    async with server, unix_connect(str(app.place.socket), "ws://port--demo--ada.localhost/") as connection:
        for message in ("hello", b"\x00" * 100_000):
            await connection.send(message)
            assert await connection.recv() == message


def test_what_is_no_http_is_the_programs_business(app: RunningApp) -> None:
    """Neither an empty connection nor a line without end keeps it from serving others."""
    for sent in (b"", b"x" * 1_000_000, b"\r\n"):
        with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.settimeout(30)
            connection.connect(str(app.place.socket))
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):
                pass
    with app.client() as client:
        assert client.get(READY).status_code == 204
    assert app.log.read_text() == ""
