"""A real edge with small programs behind it, and a client that sends exactly the bytes it is given."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from studiolo.edge.edge import Edge
from studiolo.edge.grants import Grants, new_key
from studiolo.layout import Layout
from studiolo.names import Label

LAB = Label("jupyterlab", "demo", "ada")
CODE = Label("vscode", "demo", "ada")
Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def seen(self) -> dict[str, Any]:
        """What the upstream that answered says it was asked."""
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value

    @property
    def by(self) -> str:
        return str(self.seen.get("by", ""))


@dataclass
class Upstream:
    """A program on a Unix socket that answers every request with what it was asked. As the control plane it is also
    asked whether requests may go on, and answers `hold` to that, once `go_on` is set or right away."""

    name: str
    path: Path
    requests: list[str] = field(default_factory=list)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    hold: str = "403 No\r\n"
    holds: bool = False
    asked: list[dict[str, str]] = field(default_factory=list)
    hung_up: int = 0
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self.path, limit=1 << 20)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Nobody listens any more, but the socket's file stays, as after a crash."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *rest = head.rstrip("\r\n").split("\r\n")
            if line.split(" ")[1] == "/.studiolo/hold":
                return await self._hold(reader, writer, rest)
            self.requests.append(line)
            headers = [(name.lower(), value.strip()) for name, _, value in (text.partition(":") for text in rest)]
            body = await _body(reader, dict(headers))
            await self._answer(writer, line, headers, body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _hold(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lines: list[str]) -> None:
        self.asked.append({name.lower(): value.strip() for name, _, value in (text.partition(":") for text in lines)})
        if self.holds:
            waiting = [asyncio.ensure_future(each) for each in (self.go_on.wait(), reader.read(1))]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            self.hung_up += waiting[1].done()
            for each in waiting:
                each.cancel()
        writer.write(f"HTTP/1.1 {self.hold}Content-Length: 0\r\n\r\n".encode())

    async def _answer(
        self, writer: asyncio.StreamWriter, line: str, headers: list[tuple[str, str]], body: bytes
    ) -> None:
        path = line.split(" ")[1]
        if path == "/events":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
            await writer.drain()
            await self.go_on.wait()
            writer.write(b"data: 2\n\n")
            return
        status, more = "200 OK", ""
        if path.startswith("/status/"):
            status = f"{path.removeprefix('/status/')} Chosen"
        if path == "/steer":
            more = "X-Accel-Redirect: /.studiolo/whoami\r\nX-Accel-Limit-Rate: 1\r\n"
        text = json.dumps({"by": self.name, "line": line, "headers": headers, "body": len(body)})
        more += f"Content-Length: {len(text)}\r\n"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{more}\r\n{text}".encode())


@dataclass
class Site:
    """An edge, a control plane and two apps; `key` is let in to the first app."""

    layout: Layout
    edge: Edge
    port: int
    grants: Grants
    control: Upstream
    lab: Upstream
    code: Upstream
    key: str

    def host(self, label: Label | None = LAB) -> str:
        return f"{label}.localhost:{self.port}" if label else f"localhost:{self.port}"

    def origin(self, label: Label | None = LAB) -> str:
        return f"http://{self.host(label)}"

    def cookie(self, key: str | None = None) -> tuple[str, str]:
        return ("Cookie", f"studiolo-grant={key or self.key}")

    async def ask(
        self,
        label: Label | None = LAB,
        path: str = "/",
        headers: Headers = (),
        *,
        method: str = "GET",
        body: bytes = b"",
    ) -> Answer:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host(label)}"]
        lines += [f"{name}: {value}" for name, value in headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        raw = "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + body
        return await self.send(raw, bodiless=method == "HEAD")

    async def send(self, raw: bytes, address: str = "127.0.0.1", *, bodiless: bool = False) -> Answer:
        reader, writer = await asyncio.open_connection(address, self.port)
        try:
            writer.write(raw)
            return await receive(reader, bodiless=bodiless)
        finally:
            writer.close()


@asynccontextmanager
async def running_site(home: Path | None = None) -> AsyncIterator[Site]:
    folder = home or Path(tempfile.mkdtemp(prefix="st-", dir="/tmp"))
    layout = Layout(folder)
    layout.prepare()
    edge = Edge(layout)
    grants = Grants(layout.grants, layout.relay_socket)
    apps = layout.app_sockets("w")
    apps.mkdir(parents=True, exist_ok=True)
    site = Site(
        layout=layout,
        edge=edge,
        port=free_port(),
        grants=grants,
        control=Upstream("control", layout.control_socket),
        lab=Upstream("lab", apps / "lab.sock"),
        code=Upstream("code", apps / "code.sock"),
        key=new_key(),
    )
    try:
        async with site.control, site.lab, site.code:
            grants.link(LAB, site.key, site.lab.path)
            await edge.ensure(site.port)
            yield site
    finally:
        await edge.stop()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(layout.run, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def receive(reader: asyncio.StreamReader, *, bodiless: bool = False) -> Answer:
    """One answer; a connection that is closed without one is status 0."""
    try:
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode("latin-1")
    except (asyncio.IncompleteReadError, ConnectionError):
        return Answer(0, {}, b"")
    line, *rest = head.rstrip("\r\n").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in rest)}
    body = b"" if bodiless else await asyncio.wait_for(_body(reader, headers), 20)
    return Answer(int(line.split(" ")[1]), headers, body)


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return body
    return await reader.readexactly(int(headers.get("content-length", 0)))
