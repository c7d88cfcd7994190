"""Templates to responses. Every page is made here, so that each carries the same words, filters and headers.

The templates take `assets`, the prefix of the static files: `/static` on the dashboard, `/.studiolo/static` on an app's
own host.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse

from studiolo import __version__
from studiolo.problem import Problem, StudioloError
from studiolo.server.pages import words

_SERVER = Path(__file__).resolve().parent.parent
STATIC = _SERVER / "static"
"""What the lead mounts under both asset prefixes."""
_TEMPLATES = _SERVER / "templates"

_TITLES = {
    400: "That request makes no sense here",
    403: "Not for you",
    404: "Nothing by that name",
    405: "Not that way",
    409: "Not right now",
    422: "That cannot be done as written",
    500: "Something broke on our side",
    503: "A part of Studiolo does not answer",
}


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        size=words.size,
        cores=words.cores,
        seconds=words.seconds,
        span=words.span,
        ago=words.ago,
        app_title=words.app_title,
        phase=words.phase,
        generation=words.generation,
        repository=words.repository,
        sentence=words.sentence,
        stages=words.stages,
        took=words.took,
        trouble=words.trouble,
        notes=words.notes,
        package_words=words.package_words,
        finds=words.finds,
        plain=words.plain,
        block=words.block,
        breakable=words.breakable,
        as_yaml=words.as_yaml,
    )
    environment.globals.update(UNDERWAY=words.UNDERWAY, version=__version__)
    return environment


@functools.cache
def assets_stamp() -> str:
    """Changes with any static file, so that a browser never mixes old styles with new pages."""
    digest = hashlib.sha256()
    for path in sorted(STATIC.rglob("*")):
        if path.is_file():
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:10]


def wants_fragment(request: Request) -> bool:
    """Whether htmx asks for a piece of a page."""
    return request.headers.get("hx-request") == "true"


def render(
    name: str,
    request: Request,
    /,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    account: Any = None,
    assets: str = "/static",
    **context: Any,
) -> HTMLResponse:
    """The template `name` as a response. `account` is who is signed in (an object with `.name`), None for nobody."""
    text = (
        _environment()
        .get_template(name)
        .render(
            request=request,
            csrf=getattr(request.state, "csrf", ""),
            account=account,
            assets=assets,
            stamp=assets_stamp(),
            now=datetime.now(UTC),
            path=request.url.path,
            **context,
        )
    )
    # Pages show what one person may see, right now; nobody should keep or re-use them.
    return HTMLResponse(text, status, {"Cache-Control": "no-store", "Vary": "HX-Request", **(headers or {})})


def sign_in_page(request: Request, problem: Problem | None = None) -> HTMLResponse:
    """For those who are not signed in. `problem` says what was wrong with the link they came by. A fragment asked for
    by a page whose session has ended sends the whole page here."""
    headers = {"HX-Redirect": "/sign-in"} if wants_fragment(request) else {}
    return render("sign_in.html", request, status=401, headers=headers, problem=problem)


def error_page(
    request: Request,
    status: int,
    problems: Sequence[Problem] = (),
    *,
    account: Any = None,
    assets: str = "/static",
) -> HTMLResponse:
    """A whole page, or the notice at the top of the page where htmx asked."""
    title = _TITLES.get(status) or HTTPStatus(status).phrase
    template = "fragments/notice.html" if wants_fragment(request) else "error.html"
    return render(
        template, request, status=status, account=account, assets=assets, code=status, title=title, problems=problems
    )


def problem_page(request: Request, error: StudioloError, *, account: Any = None) -> HTMLResponse:
    """What a `StudioloError` looks like to a browser."""
    return error_page(request, error.http_status, error.problems, account=account)
