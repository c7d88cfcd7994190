"""What keeps pages up to date: server-sent events that say which workspaces have changed, and logs as they are written.

`/events-stream` sends `event: changed` with `{"workspaces": [ids], "list": bool}`; `list` when one was made or has
gone. Many changes within `_SETTLE` are one message: a build tells of its progress many times a second. The page then
asks for the pieces it shows.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse

from studiolo.control.access import Account
from studiolo.resources import Event
from studiolo.server.pages import words
from studiolo.server.pages.facade import Studio
from studiolo.server.pages.workspaces import LOG_LINES

# Seconds.
_SETTLE = 0.2
_KEEP_ALIVE = 15.0
_MOST_AT_ONCE = 500
_LIST = ("created", "deleted")
_Item = TypeVar("_Item")


def router(studio: Studio, signed_in: Callable[..., Any]) -> APIRouter:
    pages = APIRouter()

    @pages.get("/events-stream")
    async def events(request: Request, account: Account = Depends(signed_in)) -> Response:
        return _sse(_changes(studio.events(account, None, None)))

    @pages.get("/workspaces/{name}/logs/stream")
    async def logs(name: str, app: str | None = None, account: Account = Depends(signed_in)) -> Response:
        workspace = await studio.workspace(account, name)
        return _sse(_lines(studio.logs(account, workspace.id, app, True, LOG_LINES), lambda line: line.text))

    @pages.get("/workspaces/{name}/environment/log/stream")
    async def build_log(
        name: str, generation: Annotated[int | None, Query(ge=1)] = None, account: Account = Depends(signed_in)
    ) -> Response:
        workspace = await studio.workspace(account, name)
        return _sse(_lines(studio.environments.log(account, workspace.id, generation, True), str))

    return pages


def _sse(messages: AsyncIterator[str]) -> Response:
    return StreamingResponse(
        messages, media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )


async def _changes(source: AsyncIterator[Event]) -> AsyncIterator[str]:
    async with _batches(source) as batches:
        # Only now is anybody listening: the page asks again for what it shows once it hears this.
        yield "retry: 1000\n: open\n\n"
        async for batch in batches:
            if not batch:
                yield ": still here\n\n"
                continue
            changed = sorted({event.workspace for event in batch if event.workspace})
            data = json.dumps({"workspaces": changed, "list": any(event.kind in _LIST for event in batch)})
            yield f"event: changed\ndata: {data}\n\n"


async def _lines(source: AsyncIterator[_Item], text_of: Callable[[_Item], str]) -> AsyncIterator[str]:
    yield "retry: 2000\nevent: begin\ndata:\n\n"
    async with _batches(source) as batches:
        async for batch in batches:
            if not batch:
                yield ": still here\n\n"
            for part in _parts(batch):
                yield f"event: lines\ndata: {json.dumps([words.plain(text_of(line)) for line in part])}\n\n"
    yield "event: end\ndata:\n\n"


def _parts(batch: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    for at in range(0, len(batch), _MOST_AT_ONCE):
        yield batch[at : at + _MOST_AT_ONCE]


@asynccontextmanager
async def _batches(source: AsyncIterator[_Item]) -> AsyncIterator[AsyncIterator[list[_Item]]]:
    """What `source` gives, gathered for `_SETTLE`; an empty list where nothing came for `_KEEP_ALIVE`. Ends with its
    source; whatever happens, the source is closed."""
    queue: asyncio.Queue[_Item | None] = asyncio.Queue(maxsize=10 * _MOST_AT_ONCE)

    async def read() -> None:
        try:
            async for item in source:
                await queue.put(item)
        finally:
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()
        await queue.put(None)

    reading = asyncio.create_task(read())
    await asyncio.sleep(0)  # the source is listened to from here on

    async def batches() -> AsyncIterator[list[_Item]]:
        while True:
            first = asyncio.create_task(queue.get())
            try:
                done, _ = await asyncio.wait({first, reading}, timeout=_KEEP_ALIVE, return_when="FIRST_COMPLETED")
                if reading in done and reading.exception() is not None:
                    return
                if not done:
                    yield []
                    continue
                item = await first
            finally:
                first.cancel()
            batch: list[_Item] = []
            await asyncio.sleep(_SETTLE)
            while item is not None:
                batch.append(item)
                if queue.empty():
                    break
                item = queue.get_nowait()
            if batch:
                yield batch
            if item is None:
                return

    try:
        yield batches()
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
