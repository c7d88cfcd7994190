"""Who is asking, and whether a browser was tricked into asking.

A program sends `Authorization: Bearer <API token>`. A browser sends the session cookie; what changes something must
come from our own origin (Fetch Metadata, Origin) and carry the session's own token, which no other site can read.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated

from fastapi import Depends, Request, WebSocket
from starlette.types import ASGIApp, Receive, Scope, Send

from studiolo.control.access import Access, Account, Session
from studiolo.problem import Denied, Problem, StudioloError

SESSION_COOKIE = "studiolo-session"
_SAFE = ("GET", "HEAD", "OPTIONS")


class SignedOut(StudioloError):
    """Nobody is signed in."""

    http_status = 401

    def __init__(self) -> None:
        super().__init__(
            Problem("signed-out", "you are not signed in", "`studiolo open` prints a link that signs you in")
        )


def access_of(request: Request | WebSocket) -> Access:
    access: Access = request.app.state.house.studio.access
    return access


async def by_bearer(request: Request | WebSocket) -> Account | None:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret:
        return None
    return await access_of(request).account_of(secret.strip(), "api-token")


async def by_cookie(request: Request) -> Session | None:
    secret = request.cookies.get(SESSION_COOKIE)
    if not secret:
        return None
    request.state.csrf = csrf_token(secret)
    return await access_of(request).session_of(secret, "session")


async def signed_in(request: Request) -> Account:
    """The account behind a request; raises `SignedOut`, or `Denied` for a browser that was tricked."""
    account = await by_bearer(request)
    if account is not None:
        return account
    session = await by_cookie(request)
    if session is None:
        raise SignedOut
    request.state.session = session
    if request.method not in _SAFE:
        await _check_csrf(request)
    return session.account


SignedIn = Annotated[Account, Depends(signed_in)]


def csrf_token(session_secret: str) -> str:
    return hashlib.sha256(f"csrf:{session_secret}".encode()).hexdigest()[:32]


async def _check_csrf(request: Request) -> None:
    given = request.headers.get("x-csrf", "")
    if not given and request.headers.get("content-type", "").startswith(
        ("application/x-www-form-urlencoded", "multipart/form-data")
    ):
        given = str((await request.form()).get("csrf", ""))
    if not hmac.compare_digest(given.encode(), request.state.csrf.encode()):
        raise Denied(
            Problem("csrf", "this request did not come from a page of Studiolo", "reload the page and try again")
        )


class SameOrigin:
    """Refuses what changes something and was sent by another site's page. Pure ASGI: nothing is buffered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in _SAFE and is_cross_site(scope):
            await send(
                {
                    "type": "http.response.start",
                    "status": 403,
                    "headers": [(b"content-type", b"application/problem+json")],
                }
            )
            body = b'{"title":"Forbidden","status":403,"code":"cross-site","detail":"another site sent this request"}'
            await send({"type": "http.response.body", "body": body})
            return
        await self._app(scope, receive, send)


def is_cross_site(scope: Scope) -> bool:
    headers: dict[bytes, str] = {name: value.decode("latin-1") for name, value in scope["headers"]}
    if headers.get(b"sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = headers.get(b"origin")
    if origin is None:
        return False
    scheme = headers.get(b"x-forwarded-proto", scope["scheme"])
    expected: str = f"{scheme}://{headers.get(b'host', '')}"
    return origin != expected
