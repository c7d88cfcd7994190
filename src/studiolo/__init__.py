"""Studiolo: a room of their own for every data scientist."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from studiolo.client import AsyncClient, Client

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> object:
    # Looked up when asked for: every command imports this package first, and most need no HTTP to begin with.
    if name in ("AsyncClient", "Client"):
        from studiolo import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
