"""The machine: what there is, what uses it, and whether all parts of Studiolo run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from studiolo.control.access import Account
from studiolo.server.pages.facade import Studio
from studiolo.server.pages.render import render


def router(studio: Studio, signed_in: Callable[..., Any]) -> APIRouter:
    pages = APIRouter()

    @pages.get("/machine")
    async def page(request: Request, account: Account = Depends(signed_in)) -> Response:
        return await _machine(request, account, "machine.html")

    @pages.get("/fragments/machine")
    async def fragment(request: Request, account: Account = Depends(signed_in)) -> Response:
        return await _machine(request, account, "fragments/machine.html")

    async def _machine(request: Request, account: Account, template: str) -> Response:
        machine, status = await asyncio.gather(studio.machine(account), studio.status(account))
        return render(template, request, account=account, machine=machine, parts=status)

    return pages
