"""Removing generations that nobody needs.

Roots are what is kept: generations in use or being built, pinned ones, the latest good ones of each workspace and
template, and apps' own tools. Numbers and locks stay, so what was removed can be found and built again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from sqlalchemy import select

from studiolo.control.carry_out import Steps
from studiolo.problem import Conflict, Problem, StudioloError
from studiolo.resources import Collected
from studiolo.store.tables import NumberedGenerationRow, ToolsRow, WorkspaceRow

KEEP = 3
"""How many good generations of each workspace and template are kept, whether in use or not."""

# What is only there to be downloaded once. Other folders of the cache are needed: contexts of images, pip for overlays.
_DOWNLOADS = ("uv", "npm", "conda")


async def collect(steps: Steps, keep: int = KEEP, dry_run: bool = False, downloads: bool = False) -> Collected:
    """Remove all but the roots; with `dry_run` only say what would go. With `downloads` what was downloaded goes too:
    generations keep their files. Raises `Conflict` where that would disturb a build."""
    generations = steps.renewal.generations
    if downloads and not dry_run and generations.busy:
        raise Conflict(
            Problem("build-under-way", "an environment is being built from the downloads", "try again when it is built")
        )
    every = {each.id: each for each in await asyncio.to_thread(generations.all)}
    async with steps.store.write() as session:
        # In one transaction with taking them out of sight: nobody can be sent to one of them in between.
        rows = list(await session.scalars(select(NumberedGenerationRow).order_by(NumberedGenerationRow.number)))
        workspaces = list(await session.scalars(select(WorkspaceRow)))
        tools = {row.generation for row in await session.scalars(select(ToolsRow))}
        kept = roots(rows, {row.id: (row.generation, row.pinned) for row in workspaces}, keep)
        kept |= tools | set(steps.renewal.building.values()) | set(steps.renewal.needed.values())
        doomed = sorted(every.keys() - kept)
        retired = {} if dry_run else await asyncio.to_thread(generations.retire, doomed)
    removal = await asyncio.to_thread(*((generations.weigh, doomed) if dry_run else (generations.discard, retired)))
    for gone in () if dry_run else removal.ids:
        # an engine that does not answer keeps an image longer, and nothing else is lost by it
        with contextlib.suppress(StudioloError):
            await steps.renewal.kinds[every[gone].kind].forget(every[gone].lock)
    freed = removal.freed
    if downloads:
        freed += await asyncio.to_thread(_clear, steps.layout.cache, dry_run)
    return Collected(
        generations=removal.ids,
        freed=freed,
        shared=removal.shared,
        kept=len(every) - len(removal.ids),
        dry_run=dry_run,
    )


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


def _clear(cache: Path, dry_run: bool) -> int:
    """Remove the downloads; how many bytes of them nothing else holds."""
    freed = 0
    for name in _DOWNLOADS:
        for at, _, files in os.walk(cache / name):
            for file in files:
                with contextlib.suppress(OSError):
                    status = os.lstat(os.path.join(at, file))  # noqa: PTH118  a hundred thousand files
                    freed += status.st_blocks * 512 if status.st_nlink == 1 else 0
        if not dry_run:
            shutil.rmtree(cache / name, ignore_errors=True)
    return freed
