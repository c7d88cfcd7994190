"""The list of workspaces, one workspace with its parts, and the buttons on both.

A button posts to `/workspaces/{name}/{verb}`. Without scripts the answer is a redirect to where the button was; htmx
gets the changed piece. What looks at a piece only is below `/fragments/`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import RedirectResponse, Response

from studiolo.control.access import Account
from studiolo.problem import NotFound, Problem
from studiolo.resources import Event, UsagePoint, Workspace
from studiolo.server.pages import words
from studiolo.server.pages.charts import Usage, usage
from studiolo.server.pages.facade import Studio
from studiolo.server.pages.render import render, wants_fragment

# What is shown of a log before it is followed.
LOG_LINES = 400
HISTORY = 200
_RECENT = 6
_PIECES = ("room", "head", "usage", "charts", "recent", "history", "renewal")
# What a person did or must know; `recent` leaves out the steps that the stages show already.
_STEPS = ("locking", "locked", "built", "started", "ready", "building", "starting", "stopping", "progress")


def router(studio: Studio, signed_in: Callable[..., Any]) -> APIRouter:
    pages = APIRouter()

    @pages.get("/")
    async def index(request: Request, account: Account = Depends(signed_in)) -> Response:
        found = await _with_usage(studio, account)
        return render("workspaces.html", request, account=account, rooms=found)

    @pages.get("/fragments/rooms")
    async def rooms(request: Request, account: Account = Depends(signed_in)) -> Response:
        found = await _with_usage(studio, account)
        return render("fragments/rooms.html", request, account=account, rooms=found)

    @pages.get("/fragments/{piece}/{name}")
    async def piece(request: Request, piece: str, name: str, account: Account = Depends(signed_in)) -> Response:
        """A piece of a page as it is now; nothing where the workspace is gone, so that it leaves the page."""
        if piece not in _PIECES:
            raise NotFound(Problem("piece-unknown", f"there is no piece of a page named {piece}"))
        try:
            workspace = await studio.workspace(account, name)
        except NotFound:
            gone = {"HX-Redirect": "/"} if piece == "head" else {}
            return render("fragments/gone.html", request, headers=gone)
        return await _piece(request, account, workspace, piece)

    async def _piece(request: Request, account: Account, workspace: Workspace, piece: str) -> Response:
        context: dict[str, Any] = {"workspace": workspace}
        if piece in ("room", "usage", "charts"):
            context["usage"] = _drawn(workspace, await studio.usage(account, workspace.id))
        if piece in ("recent", "history"):
            events = await studio.history(account, workspace.id, 0, HISTORY)
            context["events"] = _recent(events) if piece == "recent" else list(reversed(events))
        return render(f"fragments/{piece}.html", request, account=account, **context)

    @pages.get("/workspaces")
    async def plural(account: Account = Depends(signed_in)) -> Response:
        return RedirectResponse("/", 303)

    @pages.get("/workspaces/{name}")
    async def overview(request: Request, name: str, account: Account = Depends(signed_in)) -> Response:
        workspace = await studio.workspace(account, name)
        await studio.expect(account, workspace.id)
        points, events = await asyncio.gather(
            studio.usage(account, workspace.id), studio.history(account, workspace.id, 0, HISTORY)
        )
        return render(
            "workspace/overview.html",
            request,
            account=account,
            workspace=workspace,
            tab="overview",
            usage=_drawn(workspace, points),
            events=_recent(events),
        )

    @pages.get("/workspaces/{name}/history")
    async def history(request: Request, name: str, account: Account = Depends(signed_in)) -> Response:
        workspace = await studio.workspace(account, name)
        events = list(reversed(await studio.history(account, workspace.id, 0, HISTORY)))
        return render(
            "workspace/history.html", request, account=account, workspace=workspace, tab="history", events=events
        )

    @pages.get("/workspaces/{name}/logs")
    async def logs(
        request: Request, name: str, app: str | None = None, account: Account = Depends(signed_in)
    ) -> Response:
        workspace = await studio.workspace(account, name)
        chosen = app or workspace.apps[0].name
        found = studio.logs(account, workspace.id, chosen, False, LOG_LINES)
        async with aclosing(found):  # type: ignore[type-var]
            lines = [words.plain(line.text) async for line in found]
        return render(
            "workspace/logs.html", request, account=account, workspace=workspace, tab="logs", app=chosen, lines=lines
        )

    @pages.get("/workspaces/{name}/document")
    async def document(request: Request, name: str, account: Account = Depends(signed_in)) -> Response:
        workspace = await studio.workspace(account, name)
        return render("workspace/document.html", request, account=account, workspace=workspace, tab="document")

    @pages.get("/workspaces/{name}/connect")
    async def connect(request: Request, name: str, account: Account = Depends(signed_in)) -> Response:
        workspace = await studio.workspace(account, name)
        return render("workspace/connect.html", request, account=account, workspace=workspace, tab="connect")

    @pages.get("/workspaces/{name}/delete")
    async def ask_to_delete(request: Request, name: str, account: Account = Depends(signed_in)) -> Response:
        workspace = await studio.workspace(account, name)
        return render("workspace/delete.html", request, account=account, workspace=workspace, tab="delete")

    @pages.post("/workspaces/{name}/start")
    async def start(
        request: Request, name: str, view: Annotated[str, Form()] = "head", account: Account = Depends(signed_in)
    ) -> Response:
        return await _changed(request, account, await studio.start(account, name), view)

    @pages.post("/workspaces/{name}/rescue")
    async def rescue(
        request: Request, name: str, view: Annotated[str, Form()] = "head", account: Account = Depends(signed_in)
    ) -> Response:
        return await _changed(request, account, await studio.start(account, name, rescue=True), view)

    @pages.post("/workspaces/{name}/stop")
    async def stop(
        request: Request, name: str, view: Annotated[str, Form()] = "head", account: Account = Depends(signed_in)
    ) -> Response:
        return await _changed(request, account, await studio.stop(account, name), view)

    @pages.post("/workspaces/{name}/restart")
    async def restart(
        request: Request, name: str, view: Annotated[str, Form()] = "head", account: Account = Depends(signed_in)
    ) -> Response:
        return await _changed(request, account, await studio.restart(account, name), view)

    @pages.post("/workspaces/{name}/delete")
    async def delete(
        name: str, purge: Annotated[bool, Form()] = False, account: Account = Depends(signed_in)
    ) -> Response:
        await studio.delete(account, name, purge)
        return RedirectResponse("/", 303)

    async def _changed(request: Request, account: Account, workspace: Workspace, view: str) -> Response:
        if wants_fragment(request):
            return await _piece(request, account, workspace, "room" if view == "room" else "head")
        return RedirectResponse("/" if view == "room" else f"/workspaces/{workspace.name}", 303)

    return pages


async def _with_usage(studio: Studio, account: Account) -> list[tuple[Workspace, Usage]]:
    """By name, each with its last hour."""
    found = sorted(await studio.workspaces(account), key=lambda workspace: (workspace.project, workspace.name))
    points = await asyncio.gather(*(studio.usage(account, workspace.id) for workspace in found))
    return [(workspace, _drawn(workspace, used)) for workspace, used in zip(found, points, strict=True)]


def _drawn(workspace: Workspace, points: Sequence[UsagePoint]) -> Usage:
    return usage(workspace, points, datetime.now(UTC))


def _recent(events: Sequence[Event]) -> list[Event]:
    """The latest things worth telling, newest first."""
    return [event for event in reversed(events) if event.kind not in _STEPS][:_RECENT]
