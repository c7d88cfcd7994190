"""Paths of the API, made of names that were looked at first."""

from __future__ import annotations

from studiolo.names import is_name
from studiolo.problem import NotFound, Problem


def workspace_path(ref: str, *more: str) -> str:
    """Raises `NotFound` for what no workspace can be called."""
    return "/".join(("/workspaces", word(ref, "workspace"), *more))


def word(text: str, what: str) -> str:
    """Raises `NotFound` for what no `what` can be called."""
    # Servers decode %2F before they route, so quoting alone would let `demo/history` or `..` mean something else.
    if not is_name(text):
        raise NotFound(Problem(f"{what}-unknown", f"there is no {what} {text[:80]!r}, nor could one have that name"))
    return text
