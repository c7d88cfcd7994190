"""The relay: WebSockets pass through it, so that taking a grant away cuts what is open.

nginx sends an upgrade for `<label>/<key>.ws` here, with the header `X-Studiolo-Grant: <label>/<key>` (which it
overwrites, so no client can set it). The relay connects to the grant's link and passes the request on, without that
header and without an offer to compress, as what is in compressed frames could not be told. Then it moves bytes both
ways, holding back the side that is faster. Each half second it looks whether the link still leads where it led; where
not, both ends are closed. Input from the browser sets the time of `<activity>/<label>`.

A grant that leads nowhere is answered by closing: nginx then asks the control plane, as it does for plain requests.
It runs inside the grants folder and connects by relative paths, for which a Unix socket's 107 bytes suffice.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    sys.modules["ssl"] = None  # type: ignore[assignment]  # asyncio does without it; so the process is 4 MB smaller

import argparse
import asyncio
import contextlib
import os
import re
import signal
import time
from pathlib import Path

from studiolo.daemon import write_pid_file
from studiolo.edge.frames import FrameReader

SWEEP = 0.5
STAMP = 5.0
HEAD_LIMIT = 256 * 1024
HEAD_TIMEOUT = 10.0
_READ = 128 * 1024
_BACKLOG = 1024
_GRANT = re.compile(rb"\r\nx-studiolo-grant:[ \t]*(([a-z0-9-]{7,60})/[A-Za-z0-9_-]{43})[ \t]*(?=\r\n)", re.IGNORECASE)

_COMPRESSION = re.compile(rb"\r\nsec-websocket-extensions:[^\r\n]*(?=\r\n)", re.IGNORECASE)


class Relay:
    """All that is shared between connections: which grants are in use, and when each label was last stamped."""

    def __init__(self, activity: Path) -> None:
        self._activity = activity
        self._open: dict[tuple[str, str], set[Browser]] = {}
        self._stamped: dict[str, float] = {}
        # One buffer for everybody: what was read is copied or sent before the next read.
        self.buffer = memoryview(bytearray(_READ))

    def join(self, grant: str, target: str, browser: Browser) -> None:
        self._open.setdefault((grant, target), set()).add(browser)

    def leave(self, grant: str, target: str, browser: Browser) -> None:
        members = self._open.get((grant, target), set())
        members.discard(browser)
        if not members:
            self._open.pop((grant, target), None)

    def sweep(self) -> None:
        """Cut every connection whose link is gone or leads elsewhere by now."""
        for (grant, target), browsers in list(self._open.items()):
            if link_target(grant) != target:
                for browser in list(browsers):
                    browser.cut()

    def stamp(self, label: str) -> None:
        """There was input for this label now. Writes at most once in `STAMP` seconds."""
        now = time.monotonic()
        if now - self._stamped.get(label, -STAMP) < STAMP:
            return
        self._stamped[label] = now
        with contextlib.suppress(OSError):
            (self._activity / label).touch(mode=0o600)


def link_target(grant: str) -> str | None:
    """Where a grant leads; None where there is no such link."""
    try:
        return os.readlink(grant)  # noqa: PTH115  compared with itself only, often
    except OSError:
        return None


class _End(asyncio.BufferedProtocol):
    """One end of a connection. What arrives is written to the other end, whose fullness stops the reading here."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.transport: asyncio.Transport | None = None
        self.peer: _End | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=256 * 1024)
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.relay.buffer

    def buffer_updated(self, nbytes: int) -> None:
        assert self.peer is not None
        assert self.peer.transport is not None
        self.peer.transport.write(bytes(self.relay.buffer[:nbytes]))

    def pause_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        # What this end sent before it went is still delivered.
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.close()

    def cut(self) -> None:
        """Close both ends now; nothing that waits is delivered."""
        for end in (self, self.peer):
            if end is not None and end.transport is not None:
                end.transport.abort()


class App(_End):
    """The end towards the app."""


class Browser(_End):
    """The end towards nginx: first a request head, then WebSocket frames."""

    def __init__(self, relay: Relay) -> None:
        super().__init__(relay)
        self._head = bytearray()
        self._frames = FrameReader()
        self._grant = ""
        self._target = ""
        self._label = ""
        self._connecting: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._deadline = asyncio.get_running_loop().call_later(HEAD_TIMEOUT, self.cut)

    def buffer_updated(self, nbytes: int) -> None:
        if self.peer is None:
            self._head += self.relay.buffer[:nbytes]
            self._read_head()
            return
        super().buffer_updated(nbytes)
        if self._frames.feed(self.relay.buffer[:nbytes]):
            self.relay.stamp(self._label)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._deadline is not None:
            self._deadline.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        self.relay.leave(self._grant, self._target, self)

    def _read_head(self) -> None:
        assert self.transport is not None
        end = self._head.find(b"\r\n\r\n")
        if self._connecting is not None or (end < 0 and len(self._head) <= HEAD_LIMIT):
            return
        grants = _GRANT.findall(self._head, 0, end + 2) if end >= 0 else []
        target = link_target(grants[0][0].decode()) if len(grants) == 1 else None
        if target is None:
            self.transport.abort()
            return
        self._grant, self._label, self._target = grants[0][0].decode(), grants[0][1].decode(), target
        self.relay.join(self._grant, target, self)
        # Nothing follows the head before the app has answered; should it, it waits in the socket.
        self.transport.pause_reading()
        head = _COMPRESSION.sub(b"", _GRANT.sub(b"", self._head[: end + 2])) + b"\r\n"
        self._connecting = asyncio.get_running_loop().create_task(self._connect(head, bytes(self._head[end + 4 :])))

    async def _connect(self, head: bytes, rest: bytes) -> None:
        assert self.transport is not None
        app = App(self.relay)
        app.peer = self
        try:
            async with asyncio.timeout(HEAD_TIMEOUT):
                await asyncio.get_running_loop().create_unix_connection(lambda: app, self._grant)
        except OSError:  # TimeoutError is one too
            self.transport.abort()
            return
        assert app.transport is not None
        if self.transport.is_closing():
            app.transport.abort()
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self.peer = app
        self._head.clear()
        app.transport.write(head + rest)
        if self._frames.feed(memoryview(rest)):
            self.relay.stamp(self._label)
        self.transport.resume_reading()


async def serve(grants: Path, socket: Path, activity: Path, pid_file: Path) -> None:
    """Relay until SIGTERM or SIGINT. The pid file is written once connections are accepted."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, done.set)
    relay = Relay(activity)
    os.chdir(grants)
    # Renamed into place, so that there is no moment without a socket when one relay follows another.
    draft = socket.with_name(f"{socket.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    server = await loop.create_unix_server(lambda: Browser(relay), str(draft), backlog=_BACKLOG)
    draft.chmod(0o600)
    draft.replace(socket)
    write_pid_file(pid_file)
    while not done.is_set():
        relay.sweep()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), SWEEP)
    server.close()  # and not wait_closed(), which would wait for people to leave


def main() -> None:
    parser = argparse.ArgumentParser(prog="studiolo.edge.relay")
    for name in ("grants", "socket", "activity", "pid-file"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    paths = (path.absolute() for path in (given.grants, given.socket, given.activity, given.pid_file))
    asyncio.run(serve(*paths))


if __name__ == "__main__":
    main()
