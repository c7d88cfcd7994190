"""Errors as `application/problem+json` (RFC 9457) for programs, and as pages for people."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from studiolo.problem import Problem, StudioloError
from studiolo.resources import ProblemDetails
from studiolo.server.auth import SignedOut
from studiolo.server.pages.render import error_page, sign_in_page


def details(status: int, *problems: Problem) -> ProblemDetails:
    first = problems[0]
    return ProblemDetails(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=first.message,
        code=first.code,
        hint=first.hint,
        problems=tuple(
            {"code": each.code, "message": each.message, "hint": each.hint, "where": each.where} for each in problems
        ),
    )


def as_json(status: int, *problems: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(
        details(status, *problems).model_dump(),
        status,
        headers=headers,
        media_type="application/problem+json",
    )


def wants_page(request: Request) -> bool:
    """Whether a person looks at the answer."""
    if request.url.path.startswith("/api/"):
        return False
    return request.headers.get("sec-fetch-mode") == "navigate" or "text/html" in request.headers.get("accept", "")


def _answer(request: Request, status: int, *problems: Problem) -> Response:
    if wants_page(request):
        return error_page(request, status, problems)
    return as_json(status, *problems)


def install(app: FastAPI) -> None:
    @app.exception_handler(StudioloError)
    async def _known(request: Request, error: StudioloError) -> Response:
        if isinstance(error, SignedOut) and wants_page(request):
            return sign_in_page(request)
        return _answer(request, error.http_status, *error.problems)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        code = HTTPStatus(error.status_code).name.lower().replace("_", "-")
        return _answer(request, error.status_code, Problem(code, str(error.detail)))

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        problems = [
            Problem("invalid", str(each["msg"]), where=".".join(str(part) for part in each["loc"][1:]))
            for each in error.errors()
        ]
        return _answer(request, 422, *problems)

    @app.exception_handler(Exception)
    async def _unknown(request: Request, error: Exception) -> Response:
        return _answer(
            request, 500, Problem("internal", "Studiolo made a mistake; it is in its log", "logs/control-plane.log")
        )
