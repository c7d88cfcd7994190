"""What the control plane answers on an app's own host: where there is no grant, or nobody listens yet.

The edge sends such requests here with `X-Studiolo-Label`, which no client can set. A browser that opens the link of a
stopped workspace wakes it; a page left open that polls in the background does not.
"""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from studiolo.control.access import Account
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
        label = _label(request)
        navigates = _navigates(request)
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        try:
            account, workspace = await _holder(request)
        except Denied as error:
            if navigates:
                query = urlencode({"label": str(label), "next": safe_path(target)})
                return RedirectResponse(f"{house.origin}/authorize?{query}", 303, headers={"Cache-Control": "no-store"})
            return problems.as_json(401, *error.problems)
        # The link may be missing although the grant is there: the run folder does not outlive a reboot.
        await house.studio.access.relink(_key(request), label, workspace.id)
        if not navigates:
            state = next(app.state for app in workspace.apps if app.name == label.app)
            return problems.as_json(
                503,
                Problem(
                    "not-ready",
                    f"{label.app} of {workspace.name} does not answer: {state}",
                    f"studiolo start {workspace.name}",
                ),
                headers={"Retry-After": "2"},
            )
        if workspace.desired == "deleted":
            return error_page(request, 404, [Problem("deleted", "this workspace is being deleted")], assets=_ASSETS)
        if workspace.phase == "stopped" or workspace.desired == "stopped":
            workspace = await house.studio.start(account, workspace.id, "its link was opened")
        return _waking(request, workspace, label)

    def _waking(request: Request, workspace: Workspace, label: Label) -> Response:
        return render(
            "waking.html",
            request,
            status=503,
            headers={"Retry-After": "1"},
            assets=_ASSETS,
            workspace=workspace,
            app=label.app,
            dashboard=f"{house.origin}/workspaces/{workspace.name}",
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


def _navigates(request: Request) -> bool:
    """Whether a person opens a page here, rather than a page polling or a browser fetching ahead."""
    if request.method != "GET" or "prefetch" in request.headers.get("sec-purpose", ""):
        return False
    mode = request.headers.get("sec-fetch-mode")
    return mode == "navigate" if mode is not None else "text/html" in request.headers.get("accept", "")
