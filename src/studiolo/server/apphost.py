"""What the control plane answers on an app's own host: where there is no grant, or nobody listens yet.

The edge sends such requests here with `X-Studiolo-Label`, which no client can set. For who holds a grant it first asks
`/.studiolo/hold` whether the request may go on, which is answered once that is known; the request itself never comes
here. Only what is left comes: who must sign in, and who looks at the waking page.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from studiolo.control import waking
from studiolo.control.access import Account
from studiolo.control.holding import Holding
from studiolo.control.house import House
from studiolo.edge.nginx import GRANT_COOKIE
from studiolo.names import Label
from studiolo.problem import Denied, NotFound, Problem
from studiolo.resources import Workspace
from studiolo.server import problems
from studiolo.server.api import sse
from studiolo.server.auth import SameOrigin
from studiolo.server.pages.render import STATIC, error_page, render
from studiolo.server.signin import safe_path

_ASSETS = "/.studiolo/static"
_LONGEST = 2000  # characters of a reason in a header
_GONE = 499
"""What nginx notes of a client that has not waited for the answer. Nobody reads it."""
_T = TypeVar("_T")


class ByHost:
    """Requests for an app's host go to `apps`, all others to `main`."""

    def __init__(self, main: ASGIApp, apps: ASGIApp) -> None:
        self._main = main
        self._apps = apps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        labelled = scope["type"] == "http" and any(
            name == b"x-studiolo-label" and value for name, value in scope["headers"]
        )
        await (self._apps if labelled else self._main)(scope, receive, send)


def create(house: House) -> FastAPI:
    app = FastAPI(title="Studiolo apps", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.house = house
    holding = Holding(house.studio)
    app.add_middleware(SameOrigin)
    problems.install(app)
    app.mount(_ASSETS, StaticFiles(directory=STATIC))

    @app.get("/.studiolo/enter")
    async def enter(request: Request, code: str, next: str = "/") -> Response:
        """Exchange a one-time code for a grant cookie on this host."""
        label = _label(request)
        account, data = await house.studio.access.redeem(code, "entry")
        found = await house.studio.find(label)
        if data.get("label") != str(label) or found is None or found[0].id != account.id:
            raise Denied(Problem("entry-foreign", "this link is for another app", "open the app from the dashboard"))
        key, _ = await house.studio.access.grant(account, label, found[1].id, data.get("session"))
        response = RedirectResponse(
            safe_path(next), 303, headers={"Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
        )
        response.set_cookie(
            GRANT_COOKIE, key, max_age=30 * 86400, httponly=True, samesite="lax",
            secure=house.origin.startswith("https://"),
        )  # fmt: skip
        return response

    @app.get("/.studiolo/hold")
    async def hold(request: Request) -> Response:
        """The edge asks whether a request may go to its app: 204 when the app answers. `X-Studiolo-Missed` says what it
        is (`GET`, `WEBSOCKET`; `GET lost` where the app was there but could not be reached). Otherwise 403, with the
        answer to give in headers, or none for somebody who is to see a page."""
        label = _label(request)
        method, _, lost = request.headers["x-studiolo-missed"].partition(" ")
        what = waking.intent(method, request.headers)
        try:
            account, workspace = await _holder(request)
        except Denied as error:
            return _no(waking.Refuse(error.problem, status=401), what)
        # The link may be missing although the grant is there: the run folder does not outlive a reboot.
        await house.studio.access.relink(_key(request), label, workspace.id)
        found = await _unless_gone(request, holding.hold(account, workspace, label.app, what, lost=bool(lost)))
        if isinstance(found, waking.Refuse):
            return _no(found, what)
        if found is None:
            return Response(status_code=_GONE)
        house.studio.access.mark_ready(label, workspace.id)
        return Response(status_code=204)

    @app.get("/.studiolo/ready")
    async def ready(request: Request) -> Response:
        """The waking page asks: 204 as soon as the app answers, and a problem where it will not."""
        account, workspace = await _holder(request)
        found = await _unless_gone(request, holding.hold(account, workspace, _label(request).app, "polls"))
        if isinstance(found, waking.Refuse):
            return problems.as_json(found.status, found.problem, headers=_again(found))
        return Response(status_code=204 if found is not None else _GONE, headers={"Cache-Control": "no-store"})

    @app.get("/.studiolo/progress")
    async def progress(request: Request) -> StreamingResponse:
        """The waking page listens here."""
        account, workspace = await _holder(request)
        return sse(house.studio.events(account, None, workspace.id))

    @app.post("/.studiolo/start")
    async def start(request: Request) -> Response:
        account, workspace = await _holder(request)
        await house.studio.restart(account, workspace.id)
        return RedirectResponse("/", 303)

    async def _holder(request: Request) -> tuple[Account, Workspace]:
        label = _label(request)
        account = await house.studio.access.holds(_key(request), label)
        found = await house.studio.find(label)
        if account is None or found is None or found[0].id != account.id:
            raise Denied(Problem("no-grant", "you have not been let in here", "open the app from the dashboard"))
        return account, found[1]

    @app.api_route("/{path:path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    async def missed(request: Request, path: str) -> Response:
        """Who has no key, and who opens a page of an app that does not answer yet."""
        label = _label(request)
        opens = waking.intent(request.method, request.headers) == "opens"
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        try:
            account, workspace = await _holder(request)
        except Denied as error:
            if opens:
                query = urlencode({"label": str(label), "next": safe_path(target)})
                return RedirectResponse(f"{house.origin}/authorize?{query}", 303, headers={"Cache-Control": "no-store"})
            return problems.as_json(401, *error.problems)
        if workspace.desired == "deleted":
            return error_page(request, 404, [Problem("deleted", "this workspace is being deleted")], assets=_ASSETS)
        return await _waking(request, account, workspace, label)

    async def _waking(request: Request, account: Account, workspace: Workspace, label: Label) -> Response:
        asked = await house.studio.asked(account, workspace.id)
        return render(
            "waking.html",
            request,
            status=503,
            headers={"Retry-After": "1"},
            assets=_ASSETS,
            workspace=workspace,
            app=label.app,
            dashboard=f"{house.origin}/workspaces/{workspace.name}",
            elapsed=(datetime.now(UTC) - asked).total_seconds() if asked is not None else None,
        )

    return app


def _label(request: Request) -> Label:
    label = Label.parse(request.headers["x-studiolo-label"])
    if label is None:
        raise NotFound(Problem("app-unknown", "there is no app at this address", "the dashboard shows those there are"))
    return label


def _key(request: Request) -> str:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return request.cookies.get(GRANT_COOKIE) or (key.strip() if scheme.lower() in ("token", "bearer") else "")


def _no(refused: waking.Refuse, what: waking.Intent) -> Response:
    """A no for the edge, which gives the answer in our place; a page it has us make when it comes to us with that."""
    if what == "opens":
        return Response(status_code=403)
    told = json.dumps(problems.details(refused.status, _short(refused.problem)).model_dump(exclude={"problems"}))
    return Response(
        status_code=403,
        headers={"X-Studiolo-Told": told, "X-Studiolo-Status": str(refused.status), **_again(refused)},
    )


def _short(problem: Problem) -> Problem:
    """Its reason may be a log's last lines, and a header takes so much only."""
    return replace(problem, message=problem.message[-_LONGEST:], hint=problem.hint[:_LONGEST])


def _again(refused: waking.Refuse) -> dict[str, str]:
    return {"Retry-After": str(refused.again)} if refused.again is not None else {}


async def _unless_gone(request: Request, waiting: Coroutine[Any, Any, _T]) -> _T | None:
    """What was waited for; None where nobody waits for it any more."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = (asyncio.ensure_future(waiting), asyncio.ensure_future(gone()))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
