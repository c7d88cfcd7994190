"""All pages as one router."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter

from studiolo.server.pages import blocks, create, environments, live, machine, workspaces
from studiolo.server.pages.facade import Studio


def router(studio: Studio, signed_in: Callable[..., Any]) -> APIRouter:
    """The pages of `studio`. `signed_in` is a dependency that gives the account (`control.access.Account`) or raises;
    it also checks the token that every form carries in its field `csrf`, and every fragment's request in `X-CSRF`."""
    pages = APIRouter(include_in_schema=False)
    for part in (environments, workspaces, create, live, blocks, machine):
        pages.include_router(part.router(studio, signed_in))
    return pages
