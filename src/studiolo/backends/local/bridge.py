"""Joins a Unix socket to a loopback port, for programs that can only listen on a port.

`python -m studiolo.backends.local.bridge <socket> <port>`, one process per such app, in the workspace's own control
group. It outlives the host agent, ends with the workspace, and passes bytes without looking at them. Where nobody
listens on the port it hangs up, so that a proxy in front sees the same as with a socket nobody listens on.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

_CHUNK = 1 << 18


async def serve(socket: Path, port: int) -> None:
    """Serve for ever. The socket appears under its name only once it listens, and only its owner may connect."""

    async def joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port, limit=_CHUNK)
        except OSError:
            writer.transport.abort()
            return
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_pass_on(reader, far_writer))
                both.create_task(_pass_on(far_reader, writer))
        except* OSError:
            writer.transport.abort()
        finally:
            for end in (writer, far_writer):
                end.close()
                with contextlib.suppress(OSError):
                    await end.wait_closed()

    draft = socket.with_suffix(f".{port}")
    draft.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(joined, draft, limit=_CHUNK, backlog=1024)
    draft.chmod(0o600)
    draft.replace(socket)
    await server.serve_forever()


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(_CHUNK):
        target.write(data)
        await target.drain()
    if target.can_write_eof():
        target.write_eof()


def main() -> None:
    """Ends quietly on SIGTERM, by its default action."""
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))


if __name__ == "__main__":
    main()
