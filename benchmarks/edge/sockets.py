"""What the relay costs: the same WebSocket traffic to the app itself, through nginx, and through nginx and the relay.

The frames are written and read by hand, so that neither end is what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.edge.peers import KEY, PORT, host, label
from studiolo.edge import nginx
from studiolo.edge.edge import Edge
from studiolo.edge.grants import Grants
from studiolo.layout import Layout

_ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
_BLOCK = b"\x82\x7f" + (65536 - 10).to_bytes(8) + b"x" * (65536 - 10)


def figures(seconds: float) -> dict[str, dict[str, float]]:
    """By the way it goes: round trips of 100 bytes per second, and MB/s down and up, on one connection."""
    home = Path(tempfile.mkdtemp(prefix="sb-", dir="/tmp"))
    layout = Layout(home)
    layout.prepare()
    app = layout.run / "apps" / "app.sock"
    grants = Grants(layout.grants, layout.relay_socket)
    edge = Edge(layout, listen=("127.0.0.1",))
    found = {}
    try:
        with _app(app):
            found["app alone"] = _measure(None, app, seconds)
            asyncio.run(edge.ensure(PORT))
            grants.link(label(0), KEY, app)
            found["nginx and relay"] = _measure(PORT, app, seconds)
            # The relay left out: its link leads to the app itself.
            Grants(layout.grants, app).link(label(0), KEY, app)
            found["nginx"] = _measure(PORT, app, seconds)
    finally:
        asyncio.run(edge.stop())
        shutil.rmtree(home)
    return found


def _measure(port: int | None, app: Path, seconds: float) -> dict[str, float]:
    return {
        "round trips/s": _round_trips(port, app, seconds),
        "MB/s down": _down(port, app, seconds),
        "MB/s up": _up(port, app, seconds),
    }


def _round_trips(port: int | None, app: Path, seconds: float) -> float:
    frame = b"\x82" + bytes([0x80 | 100]) + b"mask" + b"x" * 100
    with contextlib.closing(_opened(port, app, "/echo")) as connection:
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            connection.sendall(frame)
            _exactly(connection, len(frame))
            count += 1
        return count / (time.perf_counter() - began)


def _down(port: int | None, app: Path, seconds: float) -> float:
    with contextlib.closing(_opened(port, app, "/down")) as connection:
        got, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            got += len(connection.recv(1 << 20))
        return got / (time.perf_counter() - began) / 1e6


def _up(port: int | None, app: Path, seconds: float) -> float:
    """What the app says has arrived counts, not what was sent."""
    block = b"\x82\xff" + _BLOCK[2:10] + b"mask" + _BLOCK[10:]
    with contextlib.closing(_opened(port, app, "/up")) as connection:
        sent, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            connection.sendall(block)
            sent += len(block)
        connection.sendall(b"\x88\x80mask")
        connection.settimeout(60)
        _exactly(connection, 4)
        return sent / (time.perf_counter() - began) / 1e6


def _opened(port: int | None, app: Path, path: str) -> socket.socket:
    if port is None:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(app))
    else:
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    name = f"{host(0)}:{port}"
    head = f"GET {path} HTTP/1.1\r\nHost: {name}\r\nOrigin: http://{name}\r\nCookie: {nginx.GRANT_COOKIE}={KEY}\r\n"
    connection.sendall(f"{head}Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += connection.recv(1)
    if not answer.startswith(b"HTTP/1.1 101"):
        raise SystemExit(f"no WebSocket: {answer!r}")
    return connection


@contextlib.contextmanager
def _app(path: Path) -> Iterator[None]:
    """Echoes, sends or swallows as its path says; each connection in a thread of its own."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=_serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _serve(connection: socket.socket) -> None:
    with contextlib.suppress(OSError), contextlib.closing(connection):
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(4096)
        connection.sendall(_ACCEPTED)
        path = head.split(b" ")[1]
        while path == b"/down":
            connection.sendall(_BLOCK)
        end = b""
        while data := connection.recv(1 << 20):
            if path == b"/echo":
                connection.sendall(data)
                continue
            end = (end + data)[-6:]
            if end == b"\x88\x80mask":
                connection.sendall(b"done")
                return


def _exactly(connection: socket.socket, size: int) -> None:
    while size > 0:
        size -= len(connection.recv(size)) or size
