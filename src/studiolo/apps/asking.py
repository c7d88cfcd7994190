"""Asking a running app how it is, over its Unix socket."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2

# Seconds. An app that takes longer to say how it is counts as one that cannot tell.
_PATIENCE = 3.0


async def get_json(socket: Path, *paths: str) -> list[Any] | None:
    """The JSON answers to these paths; None where any of them does not come, or is no JSON."""
    transport = httpx2.AsyncHTTPTransport(uds=str(socket))
    try:
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", timeout=_PATIENCE) as client:
            return [(await client.get(path)).raise_for_status().json() for path in paths]
    except (httpx2.HTTPError, ValueError):
        return None


def as_time(text: Any) -> float | None:
    """Unix seconds of an ISO 8601 time; None where it is none."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError):
        return None
