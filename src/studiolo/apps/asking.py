"""Asking a running app how it is, over its Unix socket."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2

# Seconds, for all questions together. An app that takes longer to say how it is counts as one that cannot tell.
_PATIENCE = 3.0
_LONGEST_ANSWER = 1 << 20


async def get_json(socket: Path, *paths: str) -> list[Any] | None:
    """The JSON answers to these paths; None where any of them does not come, or is no JSON.

    Never raises and never takes long, whatever the app answers: it may be a program of somebody who means no good.
    """
    transport = httpx2.AsyncHTTPTransport(uds=str(socket))
    try:
        async with (
            asyncio.timeout(_PATIENCE),
            httpx2.AsyncClient(transport=transport, base_url="http://localhost", timeout=_PATIENCE) as client,
        ):
            return [json.loads(await _body(client, path)) for path in paths]
    except (httpx2.HTTPError, OSError, TimeoutError, ValueError, RecursionError):
        return None


async def _body(client: httpx2.AsyncClient, path: str) -> bytes:
    body = bytearray()
    async with client.stream("GET", path) as answer:
        answer.raise_for_status()
        async for piece in answer.aiter_bytes():
            body += piece
            if len(body) > _LONGEST_ANSWER:
                raise ValueError("the answer is too long")
    return bytes(body)


def as_time(text: Any) -> float | None:
    """Unix seconds of an ISO 8601 time; None where it is none."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
