"""Asking an app whether it is ready: one HTTP request on its socket."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

_ANSWER = 10.0  # seconds: the first request to an app may make it import half the world
_REST = 0.5  # seconds for what follows the first line


async def answers(socket: Path, path: str) -> bool:
    """Whether `GET path` is answered with a status below 500."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(_ANSWER):
            reader, writer = await asyncio.open_unix_connection(socket)
            writer.write(request.encode())
            words = (await reader.readline()).split(b" ")
        # To hang up in the middle of an answer would fill the app's log with complaints.
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(_REST):
                while await reader.read(1 << 16):
                    pass
        return len(words) > 1 and words[0].startswith(b"HTTP/") and words[1].isdigit() and int(words[1]) < 500
    except (OSError, ValueError):
        return False
    finally:
        if writer is not None:
            writer.transport.abort()


async def until_ready(socket: Path, path: str) -> None:
    """Return once the app answers. Asks every 20 ms at first, later after 3 % of the time waited so far, at most every
    250 ms: so little is lost whether it takes a tenth of a second or a minute. Safe to cancel."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    while not await answers(socket, path):
        await asyncio.sleep(min(0.25, max(0.02, 0.03 * (loop.time() - begun))))
