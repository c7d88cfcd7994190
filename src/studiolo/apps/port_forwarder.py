"""Joins a Unix socket to a loopback port on which a person may or may not run a program.

`python -m studiolo.apps.port_forwarder <socket> <port>`. It looks at no more than a connection's first line: the path
`READY` is its own, everything else is passed on as it is, WebSockets and streams included. Where nobody listens it
answers with a page that says so and loads itself again. Standard library only, as it runs in the workspace's own
process session.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

READY = "/.studiolo/port"

_CHUNK = 1 << 18
# Where `localhost` is to be found: a program may listen on either of them alone.
_LOOPBACK = ("127.0.0.1", "::1")
_REST = 0.5  # seconds for what a client still sends before it reads the page

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="refresh" content="3">
<meta name="viewport" content="width=device-width">
<title>Port {port}</title>
<style>
  :root {{ color-scheme: light dark; font: 1.1rem/1.5 system-ui, sans-serif }}
  body {{ margin: 20vh auto; max-width: 34rem; padding: 0 1.5rem }}
</style>
<h1>Nothing listens on port {port} yet</h1>
<p>Start your program in a terminal of this workspace and let it listen on <code>127.0.0.1:{port}</code>. This page
looks again every few seconds.</p>
</html>
"""


async def serve(socket: Path, port: int) -> None:
    """Serve for ever. The socket appears under its name only once it listens, and only its owner may connect."""

    async def joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _join(reader, writer, port)
        except* (OSError, ValueError, asyncio.IncompleteReadError):
            writer.transport.abort()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    draft = socket.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(joined, draft, limit=_CHUNK, backlog=1024)
    draft.chmod(0o600)
    draft.replace(socket)
    await server.serve_forever()


async def _join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    first = await reader.readline()
    if first.split(b" ")[1:2] == [READY.encode()]:
        await _answer(reader, writer, "204 No Content", "")
        return
    there = await _connected(port)
    if there is None:
        await _answer(reader, writer, "502 Bad Gateway", _PAGE.format(port=port))
        return
    far_reader, far_writer = there
    try:
        far_writer.write(first)
        async with asyncio.TaskGroup() as both:
            both.create_task(_pass_on(reader, far_writer))
            both.create_task(_pass_on(far_reader, writer))
    finally:
        far_writer.close()
        with contextlib.suppress(OSError):
            await far_writer.wait_closed()


async def _connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    for address in _LOOPBACK:
        with contextlib.suppress(OSError):
            return await asyncio.open_connection(address, port, limit=_CHUNK)
    return None


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(_CHUNK):
        target.write(data)
        await target.drain()
    if target.can_write_eof():
        target.write_eof()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: str, page: str) -> None:
    body = page.encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()
    writer.write_eof()
    # To close with something unread would reset the connection, and the answer with it.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_REST):
            while await reader.read(_CHUNK):
                pass


def main() -> None:
    """Ends quietly on SIGTERM, by its default action."""
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))


if __name__ == "__main__":
    main()
