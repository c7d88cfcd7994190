"""Removing generations that nobody needs.

Roots are what is kept: generations in use or being built, pinned ones, the latest good ones of each workspace and
template, and apps' own tools. Numbers and locks stay, so what was removed can be found and built again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from studiolo.control.carry_out import Steps
from studiolo.problem import Conflict, Problem, StudioloError
from studiolo.resources import Collected
from studiolo.store.tables import NumberedGenerationRow, ToolsRow, WorkspaceRow

KEEP = 3
"""How many good generations of each workspace and template are kept, whether in use or not."""

# What is only there to be downloaded once. Other folders of the cache are needed: contexts of images, pip for overlays.
_DOWNLOADS = ("uv", "npm", "conda", "bytecode")


async def collect(steps: Steps, keep: int = KEEP, dry_run: bool = False, downloads: bool = False) -> Collected:
    """Remove all but the roots; with `dry_run` only say what would go. With `downloads` what was downloaded goes too:
    generations keep their files. Raises `Conflict` where that would disturb a build."""
    generations, cache = steps.renewal.generations, steps.layout.cache
    if downloads and not dry_run and (generations.busy or steps.renewal.needed):
        raise Conflict(
            Problem("build-under-way", "an environment is being built from the downloads", "try again when it is built")
        )
    # at once, before another build begins: that one downloads anew
    aside = [] if not downloads else [cache / name for name in _DOWNLOADS] if dry_run else _set_aside(cache)
    every = {each.id: each for each in await asyncio.to_thread(generations.all)}
    if dry_run:
        async with steps.store.read() as session:
            kept = await _kept(steps, session, keep)
        removal = await asyncio.to_thread(generations.weigh, sorted(every.keys() - kept))
    else:
        # One transaction, and nothing is awaited between the choice and the deed: nobody goes to one of them meanwhile.
        async with steps.store.write() as session:
            kept = await _kept(steps, session, keep)
            retired = generations.retire(sorted(every.keys() - kept))
        removal = await asyncio.to_thread(generations.discard, retired)
        for gone in removal.ids:
            if gone in steps.renewal.needed.values() or generations.find(gone) is not None:
                continue  # somebody builds it again
            # an engine that does not answer keeps an image longer, and nothing else is lost by it
            with contextlib.suppress(StudioloError):
                await steps.renewal.kinds[every[gone].kind].forget(every[gone].lock)
    freed = removal.freed
    for folder in aside:
        freed += await asyncio.to_thread(_alone, folder)
        if not dry_run:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return Collected(
        generations=removal.ids,
        freed=freed,
        shared=removal.shared,
        kept=len(every) - len(removal.ids),
        dry_run=dry_run,
    )


async def _kept(steps: Steps, session: AsyncSession, keep: int) -> set[str]:
    rows = list(await session.scalars(select(NumberedGenerationRow).order_by(NumberedGenerationRow.number)))
    workspaces = list(await session.scalars(select(WorkspaceRow)))
    tools = {row.generation for row in await session.scalars(select(ToolsRow))}
    kept = roots(rows, {row.id: (row.generation, row.pinned) for row in workspaces}, keep)
    return kept | tools | set(steps.renewal.building.values()) | set(steps.renewal.needed.values())


def roots(
    rows: Sequence[NumberedGenerationRow], workspaces: Mapping[str, tuple[str | None, int | None]], keep: int
) -> set[str]:
    """The generations to keep. `workspaces` gives for each id what it is on and what it is pinned to. Pure."""
    found: set[str] = set()
    lines: dict[tuple[str, str], list[NumberedGenerationRow]] = {}
    for row in rows:
        lines.setdefault((row.scope, row.of), []).append(row)
    for (scope, of), line in lines.items():
        good = [row.generation for row in line if row.state != "bad"]
        found |= set(good[-keep:] if keep else ())
        if scope == "workspace":
            pinned = workspaces.get(of, (None, None))[1]
            found |= {row.generation for row in line if row.number == pinned}
    return found | {generation for generation, _ in workspaces.values() if generation is not None}


def _set_aside(cache: Path) -> list[Path]:
    """Move the downloads to where they are swept if they are not removed."""
    scratch = cache / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    moved = []
    for name in _DOWNLOADS:
        with contextlib.suppress(FileNotFoundError):
            moved.append((cache / name).rename(scratch / f"{name}-{secrets.token_hex(4)}"))
    return moved


def _alone(folder: Path) -> int:
    """The bytes in it that nothing else holds."""
    size = 0
    for at, _, files in os.walk(folder):
        for file in files:
            with contextlib.suppress(OSError):
                status = os.lstat(os.path.join(at, file))  # noqa: PTH118  a hundred thousand files
                size += status.st_blocks * 512 if status.st_nlink == 1 else 0
    return size
