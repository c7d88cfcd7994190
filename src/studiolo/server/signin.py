"""Signing in by a link that works once, signing out, and the way from the dashboard to an app's own origin.

    link ──► /sign-in/<ticket> ──► session cookie on the control host ──► dashboard, or /authorize?label=...
    app's host, no grant ──► /authorize?label=...&next=... ──► <app's host>/.studiolo/enter?code=... ──► grant cookie

The session cookie stays on the control host and the grant cookie on the app's; neither is ever forwarded to an app.
"""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from studiolo.control.access import LIFETIMES
from studiolo.control.launch import app_url
from studiolo.names import Label
from studiolo.problem import Denied, NotFound, Problem
from studiolo.server.api import house_of
from studiolo.server.auth import SESSION_COOKIE, SignedIn, by_cookie
from studiolo.server.pages.render import sign_in_page

router = APIRouter(include_in_schema=False)

_LONGEST_NEXT = 4000


@router.get("/sign-in")
async def sign_in(request: Request) -> Response:
    if await by_cookie(request) is not None:
        return RedirectResponse("/", 303)
    return sign_in_page(request)


@router.get("/sign-in/{ticket}")
async def use_ticket(request: Request, ticket: str) -> Response:
    """Sign in. A link that was used already does no harm to who is signed in by it."""
    access = house_of(request).studio.access
    try:
        account, leads = await access.redeem(ticket, "ticket")
    except Denied as error:
        if await by_cookie(request) is not None:
            return RedirectResponse("/", 303)
        return sign_in_page(request, error.problem)
    # What an earlier sign-in of this browser opened goes with it: signing out later must leave nothing behind.
    if (earlier := await by_cookie(request)) is not None:
        await access.sign_out(earlier.hash)
    secret = await access.issue(account.id, "session")
    target = f"/authorize?{urlencode({'label': leads['label']})}" if "label" in leads else "/"
    response = RedirectResponse(target, 303, headers={"Referrer-Policy": "no-referrer", "Cache-Control": "no-store"})
    response.set_cookie(
        SESSION_COOKIE,
        secret,
        max_age=int(LIFETIMES["session"] or 0),
        httponly=True,
        # Lax, not Strict: the way back from an app's origin is a navigation from another site.
        samesite="lax",
        secure=house_of(request).origin.startswith("https://"),
    )
    return response


@router.post("/sign-out")
async def sign_out(request: Request, account: SignedIn) -> Response:
    session = getattr(request.state, "session", None)
    if session is not None:
        await house_of(request).studio.access.sign_out(session.hash)
    response = RedirectResponse("/sign-in", 303)
    response.delete_cookie(SESSION_COOKIE)
    return response


@router.get("/authorize")
async def authorize(request: Request, account: SignedIn, label: str, next: str = "/") -> Response:
    """Carry a signed-in browser to an app that is its own."""
    house = house_of(request)
    parsed = Label.parse(label)
    found = await house.studio.find(parsed) if parsed is not None else None
    if parsed is None or found is None or found[0].id != account.id:
        raise NotFound(Problem("app-unknown", "there is no such app", "the dashboard shows those there are"))
    # It starts while the browser finds its way there.
    if found[1].desired == "stopped":
        await house.studio.wake(account, found[1].id, "its link was opened")
    session = getattr(request.state, "session", None)
    code = await house.studio.access.issue(
        account.id, "entry", {"label": label, "session": session.hash if session else None}
    )
    query = urlencode({"code": code, "next": safe_path(next)})
    return RedirectResponse(
        f"{app_url(house.origin, parsed)}/.studiolo/enter?{query}",
        303,
        headers={"Referrer-Policy": "no-referrer", "Cache-Control": "no-store"},
    )


def safe_path(text: str) -> str:
    """A path on the same host, or `/`: never a way to another site."""
    plain = text.startswith("/") and not text.startswith(("//", "/\\")) and len(text) <= _LONGEST_NEXT
    return text if plain and text.isprintable() and not text.startswith("/.studiolo/") else "/"
