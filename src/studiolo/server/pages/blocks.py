"""Building blocks: those built in, and one's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from studiolo.control.access import Account
from studiolo.control.blocks import KINDS, as_kind
from studiolo.names import is_name
from studiolo.problem import Problem, StudioloError, WrongInput
from studiolo.resources import Block, BlockKind
from studiolo.server.pages.facade import Studio
from studiolo.server.pages.render import render
from studiolo.server.pages.words import as_yaml
from studiolo.spec.load import read_yaml

_EXAMPLES: dict[BlockKind, str] = {
    "environment": 'python: "3.12"\npackages: [polars, scikit-learn, altair]\n',
    "data": "folder: /srv/tides\npath: data/tides\n",
    "compute": "cpu: 2\nmemory: 8GiB\n",
}


def router(studio: Studio, signed_in: Callable[..., Any]) -> APIRouter:
    pages = APIRouter()

    @pages.get("/blocks")
    async def index(request: Request, account: Account = Depends(signed_in)) -> Response:
        return await _index(request, account)

    async def _index(request: Request, account: Account) -> Response:
        found = await asyncio.gather(*(studio.blocks(account, kind) for kind in KINDS))
        shelves: dict[str, list[Block]] = {kind: list(blocks) for kind, blocks in zip(KINDS, found, strict=True)}
        return render("blocks.html", request, account=account, shelves=shelves)

    @pages.get("/blocks/{kind}/new")
    async def new(request: Request, kind: str, account: Account = Depends(signed_in)) -> Response:
        checked = as_kind(kind)
        return _form(request, account, checked, "", _EXAMPLES[checked])

    @pages.get("/blocks/{kind}/{name}")
    async def edit(request: Request, kind: str, name: str, account: Account = Depends(signed_in)) -> Response:
        """One's own to be changed; one that is built in as a draft of one's own."""
        for block in await studio.blocks(account, as_kind(kind)):
            if block.name == name:
                fields = {key: value for key, value in block.document.items() if key != "name"}
                text = as_yaml(fields) if fields else ""
                return _form(request, account, block.kind, "" if block.builtin else name, text)
        return RedirectResponse("/blocks", 303)

    @pages.post("/blocks/{kind}")
    async def put(request: Request, kind: str, account: Account = Depends(signed_in)) -> Response:
        checked = as_kind(kind)
        form = await request.form()
        name, text = str(form.get("name", "")).strip(), str(form.get("document", ""))
        try:
            if not is_name(name):
                raise WrongInput(
                    Problem(
                        "name-invalid", "use lower-case letters, digits and single hyphens between them", "", "name"
                    )
                )
            document = read_yaml(text, "block").data if text.strip() else {}
            await studio.put_block(account, checked, name, {**document, "name": name})
        except StudioloError as error:
            if error.http_status >= 500:
                raise
            return _form(request, account, checked, name, text, error)
        return RedirectResponse(f"/blocks#{kind}", 303)

    @pages.post("/blocks/{kind}/{name}/delete")
    async def delete(kind: str, name: str, account: Account = Depends(signed_in)) -> Response:
        await studio.delete_block(account, as_kind(kind), name)
        return RedirectResponse(f"/blocks#{kind}", 303)

    def _form(
        request: Request,
        account: Account,
        kind: BlockKind,
        name: str,
        text: str,
        error: StudioloError | None = None,
    ) -> Response:
        problems = error.problems if error else ()
        return render(
            "block.html",
            request,
            status=error.http_status if error else 200,
            account=account,
            kind=kind,
            name=name,
            text=text,
            name_problems=[problem for problem in problems if problem.where == "name"],
            problems=[problem for problem in problems if problem.where != "name"],
        )

    return pages
