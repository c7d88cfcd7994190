"""What uv reads in the folder it runs in: which packages are asked for, and where they may come from.

Written anew for each run in a folder of its own. Only in such a document can a package be bound to an index.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from studiolo.environments import package_index
from studiolo.environments.kind import Index
from studiolo.environments.uv_settings import Origin

_PROJECT = "this-environment"
"""What uv calls in its explanations what everything is asked for by."""


def write(folder: Path, wanted: Iterable[str], indexes: Sequence[Index], origins: Iterable[Origin]) -> Path:
    """A pyproject.toml that asks for `wanted`, to be given to uv as a requirements file."""
    tables = package_index.table(indexes)
    bound = {index.url: name for name, index in package_index.named(indexes)}
    sources: dict[str, list[dict[str, str]]] = {}
    for origin in origins:
        if origin.url not in bound:
            bound[origin.url] = f"studiolo-only-{len(bound)}"
            tables.append({"name": bound[origin.url], "url": origin.url, "explicit": True})
        entry = {"index": bound[origin.url], **({"marker": origin.marker} if origin.marker else {})}
        sources.setdefault(origin.package, []).append(entry)
    document: dict[str, Any] = {
        "project": {"name": _PROJECT, "version": "0", "dependencies": list(wanted)},
        "tool": {"uv": {"index": tables, "sources": sources}},
    }
    path = folder / "pyproject.toml"
    path.write_text(tomli_w.dumps(document), encoding="utf-8")
    return path


def configure(folder: Path, indexes: Sequence[Index]) -> None:
    """Have uv, run in `folder` on plain requirements, know these indexes beside the machine's own."""
    (folder / "uv.toml").write_text(tomli_w.dumps({"index": package_index.table(indexes)}), encoding="utf-8")
