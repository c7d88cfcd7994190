"""The control plane's web application: API, sign-in, pages, and what it answers on apps' hosts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from studiolo import __version__
from studiolo.control.house import House
from studiolo.server import api, apphost, environments, execution, problems, secrets, signin
from studiolo.server.auth import SameOrigin, signed_in
from studiolo.server.pages.render import STATIC
from studiolo.server.pages.router import router as pages_router

_POLICY = (
    "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self' http: https:; frame-ancestors 'none'"
)


def create(house: House, shut_down: Callable[[bool], Awaitable[None]]) -> ASGIApp:
    """`shut_down(workspaces)` ends the control plane, and with `workspaces` everything."""
    app = FastAPI(
        title="Studiolo", version=__version__, openapi_url="/api/v1/openapi.json", docs_url=None, redoc_url=None
    )
    app.state.house = house
    app.state.shut_down = shut_down
    app.add_middleware(SameOrigin)
    app.add_middleware(CanonicalHost, origin=house.origin)
    problems.install(app)
    app.include_router(api.router)
    app.include_router(environments.router)
    app.include_router(execution.router)
    app.include_router(secrets.router)
    app.include_router(signin.router)
    app.include_router(pages_router(house.studio, signed_in))
    app.mount("/static", StaticFiles(directory=STATIC))
    return PageHeaders(apphost.ByHost(app, apphost.create(house)))


class CanonicalHost:
    """Pages are only served at their canonical address: 127.0.0.1 would have cookies of its own, and apps' hosts are
    below localhost."""

    def __init__(self, app: ASGIApp, origin: str) -> None:
        self._app = app
        self._origin = origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        page = scope["type"] == "http" and scope["method"] == "GET" and not scope["path"].startswith("/api/")
        if page and Headers(scope=scope).get("host", "") != self._origin.partition("://")[2]:
            query = scope["query_string"].decode("latin-1")
            target = self._origin + scope["path"] + (f"?{query}" if query else "")
            await RedirectResponse(target, 307)(scope, receive, send)
            return
        await self._app(scope, receive, send)


class PageHeaders:
    """Our pages carry headers that keep other sites out of them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/api/"):
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Content-Security-Policy", _POLICY)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Referrer-Policy", "same-origin")
                headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
            await send(message)

        await self._app(scope, receive, with_headers)
