"""`/api/v1/secrets`: what an account keeps secret. Values go in and never come out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Request

from studiolo.resources import Secret
from studiolo.server.api import house_of
from studiolo.server.auth import SignedIn

router = APIRouter(prefix="/api/v1/secrets")


@router.get("")
async def list_secrets(request: Request, account: SignedIn) -> list[Secret]:
    """Names, and when they were set."""
    return await house_of(request).studio.secrets.list(account)


@router.put("/{name}")
async def put_secret(request: Request, account: SignedIn, name: str, value: Annotated[str, Body(embed=True)]) -> Secret:
    """Keep or replace it. The value is encrypted and is never shown again."""
    return await house_of(request).studio.secrets.put(account, name, value)


@router.delete("/{name}", status_code=204)
async def delete_secret(request: Request, account: SignedIn, name: str) -> None:
    await house_of(request).studio.secrets.delete(account, name)
