"""The kinds of environment there are, and which one a folder declares."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from studiolo.environments.kind import Detection, Kind
from studiolo.environments.npm import NpmKind
from studiolo.environments.uv import DEFAULT_PACKAGES, UvKind

DEFAULT_REASON = (
    f"nothing was found that says which packages, so {', '.join(DEFAULT_PACKAGES[:-1])} and " + (DEFAULT_PACKAGES[-1])
)


def kinds(cache: Path) -> Mapping[str, Kind]:
    """Every kind by its name. `cache` is Studiolo's cache folder."""
    every: tuple[Kind, ...] = (UvKind(cache), NpmKind(cache))
    return {kind.name: kind for kind in every}


def detect(folder: Path | None) -> Detection:
    """Which kind to use for a folder, and why. Never fails: where nothing is found, the default environment."""
    found = UvKind(Path()).detect(folder) if folder is not None else None
    return found or Detection(UvKind.name, DEFAULT_REASON)
