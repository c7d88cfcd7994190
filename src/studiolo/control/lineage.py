"""Locks that were made, and the generations that workspaces and templates have had, numbered from 1.

A number belongs to one generation for good: a lock that comes back has the number it had. Numbers and locks stay when
a generation's files are removed, so it can be built again and be found by its number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from studiolo.environments.kind import Lock
from studiolo.problem import NotFound, Problem
from studiolo.store.database import Store
from studiolo.store.tables import LockedRequestRow, LockRow, NumberedGenerationRow

Scope = Literal["workspace", "template"]
State = Literal["good", "bad", "left"]

# Seconds for which a request that leaves versions open leads to the lock that it led to last. What is locked already
# (uv.lock and the like) leads to the same for ever, but an index may answer differently tomorrow.
REMEMBERED = 86400.0


@dataclass(frozen=True)
class Line:
    """Whose generations: a workspace's (`of` is its id) or a template's (`of` is the stored environment's name)."""

    scope: Scope
    of: str


@dataclass(frozen=True)
class Entry:
    """What is written down beside a number."""

    generation: str
    by: str
    source: str
    request: str
    inputs: Mapping[str, str]


class Lineage:
    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    # Locks

    async def keep(self, lock: Lock, request: str) -> None:
        """Keep a lock, and that `request` (a digest) led to it. Idempotent."""
        async with self._store.write() as session:
            await session.merge(LockRow(id=lock.id, document=asdict(lock), made=self._clock()))
            await session.flush()
            await session.merge(LockedRequestRow(digest=request, lock=lock.id, at=self._clock()))
            before = self._clock() - REMEMBERED
            await session.execute(delete(LockedRequestRow).where(LockedRequestRow.at < before))

    async def lock(self, generation: str) -> Lock | None:
        async with self._store.read() as session:
            row = await session.get(LockRow, generation)
        return Lock(**row.document) if row is not None else None

    async def remembered(self, request: str) -> Lock | None:
        """The lock that this request led to within `REMEMBERED`."""
        async with self._store.read() as session:
            row = await session.get(LockedRequestRow, request)
        return await self.lock(row.lock) if row is not None and row.at >= self._clock() - REMEMBERED else None

    # Numbers

    async def all(self, line: Line) -> Sequence[NumberedGenerationRow]:
        """From the first to the latest."""
        query = (
            select(NumberedGenerationRow)
            .where(NumberedGenerationRow.scope == line.scope, NumberedGenerationRow.of == line.of)
            .order_by(NumberedGenerationRow.number)
        )
        async with self._store.read() as session:
            return list(await session.scalars(query))

    async def get(self, line: Line, number: int) -> NumberedGenerationRow:
        """Raises `NotFound` for a number there is not."""
        rows = await self.all(line)
        found = next((row for row in rows if row.number == number), None)
        if found is None:
            there = f"there are {rows[0].number} to {rows[-1].number}" if rows else "there is none yet"
            raise NotFound(
                Problem("generation-unknown", f"there is no generation {number}; {there}", "studiolo env ls")
            )
        return found

    async def find(self, line: Line, generation: str | None) -> NumberedGenerationRow | None:
        return next((row for row in await self.all(line) if row.generation == generation), None)

    async def record(self, line: Line, entry: Entry, state: State = "good", reason: str = "") -> int:
        """The number of this generation, a new one where it has none. What is known of it is brought up to date."""
        async with self._store.write() as session:
            where = (NumberedGenerationRow.scope == line.scope, NumberedGenerationRow.of == line.of)
            row = await session.scalar(
                select(NumberedGenerationRow).where(*where, NumberedGenerationRow.generation == entry.generation)
            )
            if row is None:
                row = NumberedGenerationRow(
                    scope=line.scope,
                    of=line.of,
                    number=await _next(session, line),
                    generation=entry.generation,
                    at=self._clock(),
                    by=entry.by,
                )
                session.add(row)
            row.state, row.reason = state, reason
            row.source, row.request, row.inputs = entry.source, entry.request, dict(entry.inputs)
            return row.number

    async def roll_back(self, line: Line, number: int) -> None:
        """Make `number` good, and leave the good ones after it."""
        generations = update(NumberedGenerationRow).where(
            NumberedGenerationRow.scope == line.scope, NumberedGenerationRow.of == line.of
        )
        async with self._store.write() as session:
            await session.execute(
                generations.where(NumberedGenerationRow.number > number, NumberedGenerationRow.state == "good").values(
                    state="left"
                )
            )
            await session.execute(generations.where(NumberedGenerationRow.number == number).values(state="good"))

    async def forget(self, line: Line) -> None:
        async with self._store.write() as session:
            await session.execute(
                delete(NumberedGenerationRow).where(
                    NumberedGenerationRow.scope == line.scope, NumberedGenerationRow.of == line.of
                )
            )


async def _next(session: AsyncSession, line: Line) -> int:
    last = await session.scalar(
        select(func.max(NumberedGenerationRow.number)).where(
            NumberedGenerationRow.scope == line.scope, NumberedGenerationRow.of == line.of
        )
    )
    return 1 + (last or 0)
