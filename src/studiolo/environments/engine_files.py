"""Reading an image's files without running it: the archive that an engine makes of a folder in a container."""

from __future__ import annotations

import asyncio
import contextlib
import tarfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

import httpx2

_LARGEST = 64 << 20
"""Bytes of one file. A package database of a large image has 10 MiB."""

_TOGETHER = 256 << 20
_PIECE = 1 << 20
_PATIENCE = httpx2.Timeout(60.0, connect=5.0)


async def read_files(
    socket: Path, container: str, path: str, keep: Callable[[str], bool], limit: int
) -> dict[str, bytes]:
    """The files at or below `path` whose name in the archive `keep` wants; none where the path is not there.

    Stops, with what it has, once `limit` bytes have gone by: an engine cannot be asked for some files of a folder.
    """
    stop = threading.Event()
    try:
        return await asyncio.to_thread(_read, socket, container, path, keep, limit, stop)
    finally:
        stop.set()


def _read(
    socket: Path, container: str, path: str, keep: Callable[[str], bool], limit: int, stop: threading.Event
) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    size = 0
    transport = httpx2.HTTPTransport(uds=str(socket), verify=False)
    with (
        # an archive that is cut off, by its limit or by the engine, ends what is known of it and nothing else
        contextlib.suppress(tarfile.TarError, httpx2.HTTPError, EOFError, OSError, ValueError),
        httpx2.Client(transport=transport, base_url="http://engine", timeout=_PATIENCE) as client,
        client.stream("GET", f"/containers/{container}/archive", params={"path": path}) as answer,
    ):
        if answer.status_code != 200:
            return found
        pipe = cast("IO[bytes]", _Pipe(answer.iter_bytes(), limit, stop))
        with tarfile.open(fileobj=pipe, mode="r|", bufsize=_PIECE) as archive:
            while (member := archive.next()) is not None and size <= _TOGETHER:
                archive.members = []  # type: ignore[attr-defined]  # or it remembers each of a million files
                if member.isreg() and member.size <= _LARGEST and keep(member.name):
                    content = archive.extractfile(member)
                    found[member.name] = content.read() if content else b""
                    size += member.size
    return found


class _Pipe:
    """A bounded file to read from, over pieces as they come."""

    def __init__(self, pieces: Iterator[bytes], limit: int, stop: threading.Event) -> None:
        self._pieces = pieces
        self._left = limit
        self._stop = stop
        self._waiting: deque[bytes] = deque()
        self._size = 0

    def read(self, size: int) -> bytes:
        while self._size < size and self._left > 0 and not self._stop.is_set():
            piece = next(self._pieces, b"")
            if not piece:
                break
            self._left -= len(piece)
            self._size += len(piece)
            self._waiting.append(piece)
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._waiting.append(data[size:])
        self._size = len(data[size:])
        return data[:size]
