"""A new workspace: from a form, or from a `studiolo.yaml` that is pasted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import FormData

from studiolo.control.access import Account
from studiolo.names import as_name, is_name
from studiolo.problem import Problem, StudioloError, WrongInput
from studiolo.resources import WorkspaceCreate
from studiolo.server.pages.facade import Studio
from studiolo.server.pages.render import render
from studiolo.spec.load import load_workspace

FILE = "studiolo.yaml"
APPS = {"jupyterlab": "JupyterLab", "vscode": "VS Code"}
# What is chosen after how long, and how it is said.
IDLE = {"": "never", "30m": "after 30 minutes", "1h": "after an hour", "4h": "after 4 hours", "12h": "after 12 hours"}
FIELDS = ("repository", "name", "environment", "compute", "data", "apps", "idle")

_EXAMPLE = """\
name: tides
repository: https://github.com/you/tides
environment:
  python: "3.12"
  packages: [pandas, scikit-learn, matplotlib]
apps: [jupyterlab, vscode]
compute:
  cpu: 2
  memory: 4GiB
idle:
  after: 1h
"""


def router(studio: Studio, signed_in: Callable[..., Any]) -> APIRouter:
    pages = APIRouter()

    @pages.get("/new")
    async def new(
        request: Request, repository: str = "", by: str = "choice", account: Account = Depends(signed_in)
    ) -> Response:
        blank = {**dict.fromkeys(FIELDS, ""), "repository": repository, "apps": list(APPS), "data": [], "document": ""}
        return await _form(request, account, "file" if by == "file" else "choice", blank)

    @pages.post("/workspaces")
    async def create(request: Request, account: Account = Depends(signed_in)) -> Response:
        form = await request.form()
        by = "file" if form.get("by") == "file" else "choice"
        try:
            wish = _from_file(form) if by == "file" else _from_choice(form)
            made = await studio.create(account, wish)
        except StudioloError as error:
            if error.http_status >= 500:
                raise
            return await _form(request, account, by, _given(form), error)
        return RedirectResponse(f"/workspaces/{made.name}", 303)

    async def _form(
        request: Request, account: Account, by: str, given: dict[str, Any], error: StudioloError | None = None
    ) -> Response:
        environments, data, compute = await asyncio.gather(
            studio.blocks(account, "environment"), studio.blocks(account, "data"), studio.blocks(account, "compute")
        )
        beside, above = _placed(error.problems if error else ())
        return render(
            "new.html",
            request,
            status=error.http_status if error else 200,
            account=account,
            by=by,
            given=given,
            environments=environments,
            sources=data,
            computes=compute,
            apps=APPS,
            idle=IDLE,
            example=_EXAMPLE,
            errors=beside,
            problems=above,
        )

    return pages


def _text(form: FormData, field: str) -> str:
    value = form.get(field)
    return value.strip() if isinstance(value, str) else ""


def _given(form: FormData) -> dict[str, Any]:
    """What was filled in, to be shown again."""
    given: dict[str, Any] = {field: _text(form, field) for field in (*FIELDS, "document")}
    given["apps"] = [str(value) for value in form.getlist("apps")]
    given["data"] = [str(value) for value in form.getlist("data")]
    return given


def _from_choice(form: FormData) -> WorkspaceCreate:
    given = _given(form)
    repository = given["repository"] or None
    name = given["name"]
    if name and not is_name(name):
        hint = f"`{as_name(name)}` would do" if as_name(name, "") else ""
        raise WrongInput(
            Problem("name-invalid", "use lower-case letters, digits and single hyphens between them", hint, "name")
        )
    if not repository and not name:
        raise WrongInput(Problem("name-missing", "a workspace without a repository needs a name", where="name"))
    if not given["apps"]:
        raise WrongInput(Problem("apps-missing", "choose at least one way in", where="apps"))
    document: dict[str, Any] = {"apps": given["apps"]}
    if given["data"]:
        document["data"] = given["data"]
    document.update({field: given[field] for field in ("environment", "compute") if given[field]})
    if given["idle"]:
        document["idle"] = {"after": given["idle"]}
    return WorkspaceCreate(document=document, name=name or None, repository=repository)


def _from_file(form: FormData) -> WorkspaceCreate:
    text = _text(form, "document")
    if not text:
        raise WrongInput(Problem("document-missing", "paste a studiolo.yaml first", where="document"))
    return WorkspaceCreate(document=load_workspace(text + "\n", FILE, {}).data)


def _placed(problems: Sequence[Problem]) -> tuple[dict[str, list[Problem]], list[Problem]]:
    """Problems beside the field that they speak of, and those that speak of none."""
    beside: dict[str, list[Problem]] = {}
    above: list[Problem] = []
    for problem in problems:
        field = problem.where.partition(".")[0].partition("[")[0]
        if problem.code == "name-taken":
            field = "name"
        elif problem.where.startswith(FILE):
            field = "document"
        if field in (*FIELDS, "document"):
            beside.setdefault(field, []).append(problem)
        else:
            above.append(problem)
    return beside, above
