"""`/api/v1`: everything the command line and the pages can do, for programs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Body, Query, Request
from fastapi.responses import StreamingResponse

from studiolo.control.access import LIFETIMES
from studiolo.control.blocks import as_kind
from studiolo.control.house import House
from studiolo.control.launch import app_url
from studiolo.problem import Denied, Problem
from studiolo.resources import (
    Account,
    Block,
    Event,
    Link,
    Machine,
    ProblemDetails,
    Resource,
    Status,
    Token,
    UsagePoint,
    Workspace,
    WorkspaceCreate,
)
from studiolo.server.auth import SignedIn
from studiolo.spec.schema import json_schema

router = APIRouter(prefix="/api/v1", responses={"default": {"model": ProblemDetails, "description": "A problem"}})

# Seconds. Comments that keep proxies from closing a quiet stream.
KEEP_ALIVE = 15.0


def house_of(request: Request) -> House:
    house: House = request.app.state.house
    return house


@router.get("/health")
async def health() -> dict[str, bool]:
    """Whether the control plane answers. Needs no sign-in."""
    return {"ok": True}


@router.get("/status")
async def status(request: Request, account: SignedIn) -> Status:
    return await house_of(request).studio.status(account)


@router.get("/machine")
async def machine(request: Request, account: SignedIn) -> Machine:
    return await house_of(request).studio.machine(account)


@router.get("/me")
async def me(account: SignedIn) -> Account:
    return Account(name=account.name, role=account.role)


@router.get("/schema")
async def schema(account: SignedIn) -> dict[str, Any]:
    """The JSON Schema of studiolo.yaml."""
    return json_schema()


@router.get("/workspaces")
async def list_workspaces(request: Request, account: SignedIn) -> list[Workspace]:
    return await house_of(request).studio.workspaces(account)


@router.post("/workspaces", status_code=201)
async def create_workspace(request: Request, account: SignedIn, wish: WorkspaceCreate) -> Workspace:
    return await house_of(request).studio.create(account, wish)


@router.get("/workspaces/{ref}")
async def show_workspace(request: Request, account: SignedIn, ref: str) -> Workspace:
    return await house_of(request).studio.workspace(account, ref)


@router.delete("/workspaces/{ref}", status_code=202)
async def delete_workspace(request: Request, account: SignedIn, ref: str, purge: bool = False) -> Workspace:
    """Stop and forget it. The home is kept unless `purge`."""
    return await house_of(request).studio.delete(account, ref, purge)


@router.post("/workspaces/{ref}/start", status_code=202)
async def start_workspace(request: Request, account: SignedIn, ref: str, rescue: bool = False) -> Workspace:
    """Start it; with `rescue` in a minimal environment, anew where it runs."""
    return await house_of(request).studio.start(account, ref, rescue=rescue)


@router.post("/workspaces/{ref}/stop", status_code=202)
async def stop_workspace(request: Request, account: SignedIn, ref: str) -> Workspace:
    return await house_of(request).studio.stop(account, ref)


@router.post("/workspaces/{ref}/restart", status_code=202)
async def restart_workspace(request: Request, account: SignedIn, ref: str) -> Workspace:
    return await house_of(request).studio.restart(account, ref)


@router.get("/workspaces/{ref}/logs", response_class=StreamingResponse)
async def workspace_logs(
    request: Request,
    account: SignedIn,
    ref: str,
    app: str | None = None,
    follow: bool = False,
    tail: Annotated[int, Query(ge=0, le=100_000)] = 200,
) -> StreamingResponse:
    """Lines as newline-delimited JSON: `{"app": ..., "text": ...}`."""
    lines = house_of(request).studio.logs(account, ref, app, follow, tail)
    first = await anext(lines, None)  # so that an unknown name is a 404, not a broken stream

    async def encoded() -> AsyncIterator[str]:
        async with aclosing(lines):  # type: ignore[type-var]
            if first is not None:
                yield json.dumps({"app": first.app, "text": first.text}) + "\n"
                async for line in lines:
                    yield json.dumps({"app": line.app, "text": line.text}) + "\n"

    return StreamingResponse(encoded(), media_type="application/x-ndjson")


@router.get("/workspaces/{ref}/history")
async def workspace_history(
    request: Request, account: SignedIn, ref: str, after: int = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 200
) -> list[Event]:
    return await house_of(request).studio.history(account, ref, after, limit)


@router.get("/workspaces/{ref}/usage")
async def workspace_usage(
    request: Request, account: SignedIn, ref: str, seconds: Annotated[float, Query(gt=0, le=86400)] = 3600
) -> list[UsagePoint]:
    return await house_of(request).studio.usage(account, ref, seconds)


@router.post("/workspaces/{ref}/tokens", status_code=201)
async def create_token(
    request: Request, account: SignedIn, ref: str, app: Annotated[str | None, Body(embed=True)] = None
) -> Token:
    """What lets a program into an app: `Authorization: token <token>` sent to its address."""
    house = house_of(request)
    label, workspace = await house.studio.app_label(account, ref, app)
    key, expires = await house.studio.access.grant(account, label, workspace.id, None)
    return Token(
        app=label.app, url=app_url(house.origin, label) + "/", token=key, expires=datetime.fromtimestamp(expires, UTC)
    )


@router.post("/links", status_code=201)
async def create_link(
    request: Request,
    account: SignedIn,
    workspace: Annotated[str | None, Body(embed=True)] = None,
    app: Annotated[str | None, Body(embed=True)] = None,
) -> Link:
    """A link that signs one browser in, once, and leads to an app or to the dashboard."""
    house = house_of(request)
    leads = {"label": str((await house.studio.app_label(account, workspace, app))[0])} if workspace is not None else {}
    ticket = await house.studio.access.issue(account.id, "ticket", leads)
    expires = datetime.now(UTC).timestamp() + (LIFETIMES["ticket"] or 0)
    return Link(url=f"{house.origin}/sign-in/{ticket}", expires=datetime.fromtimestamp(expires, UTC))


@router.get("/events", response_class=StreamingResponse)
async def events(
    request: Request, account: SignedIn, after: int | None = None, workspace: str | None = None
) -> StreamingResponse:
    """Server-sent events: what happens to the account's workspaces. `Last-Event-ID` or `after` goes on after an id."""
    last = request.headers.get("last-event-id", "")
    if last.isdigit():
        after = int(last)
    studio = house_of(request).studio
    if workspace is not None:
        await studio.workspace(account, workspace)
    return sse(studio.events(account, after, workspace))


def sse(source: AsyncIterator[Event]) -> StreamingResponse:
    return StreamingResponse(
        _as_messages(source), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _as_messages(source: AsyncIterator[Event]) -> AsyncIterator[str]:
    yield ": open\n\n"
    pending: asyncio.Task[Event] | None = None
    try:
        while True:
            pending = pending or asyncio.ensure_future(anext(source))
            done, _ = await asyncio.wait({pending}, timeout=KEEP_ALIVE)
            if not done:
                yield ": still here\n\n"
                continue
            try:
                event = pending.result()
            except StopAsyncIteration:
                return
            pending = None
            yield f"id: {event.id}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n"
    finally:
        if pending is not None:
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)
        await source.aclose()  # type: ignore[attr-defined]


@router.get("/blocks/{kind}")
async def list_blocks(request: Request, account: SignedIn, kind: str) -> list[Block]:
    return await house_of(request).studio.blocks(account, as_kind(kind))


@router.get("/blocks/{kind}/{name}")
async def show_block(request: Request, account: SignedIn, kind: str, name: str) -> Block:
    return await house_of(request).studio.block(account, as_kind(kind), name)


@router.put("/blocks/{kind}/{name}")
async def put_block(
    request: Request, account: SignedIn, kind: str, name: str, document: Annotated[dict[str, Any], Body()]
) -> Block:
    return await house_of(request).studio.put_block(account, as_kind(kind), name, document)


@router.delete("/blocks/{kind}/{name}", status_code=204)
async def delete_block(request: Request, account: SignedIn, kind: str, name: str) -> None:
    await house_of(request).studio.delete_block(account, as_kind(kind), name)


class Shutdown(Resource):
    workspaces: bool = True
    """Also stop the workspaces, the host agent and the edge."""


@router.post("/shutdown", status_code=202)
async def shutdown(request: Request, account: SignedIn, background: BackgroundTasks, how: Shutdown) -> dict[str, bool]:
    """End the control plane. For the owner of the installation."""
    if account.role != "owner":
        raise Denied(Problem("not-owner", "only the owner may shut Studiolo down"))
    background.add_task(request.app.state.shut_down, how.workspaces)
    return {"ok": True}
