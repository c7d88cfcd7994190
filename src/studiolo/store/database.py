"""Opening the store: SQLite in the data folder. Migrations run at opening."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event, inspect, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from studiolo.problem import Problem, StudioloError
from studiolo.process import ProgramFailed, run

HEAD = "0004"
"""The newest migration. A test holds it against `migrations/versions`."""


class Store:
    """Sessions on the open database. Nothing awaits the network inside one: load, act, apply."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._session = async_sessionmaker(engine, expire_on_commit=False)
        # SQLite begins a transaction at the first change, not at the first look; this makes look and change one.
        self._writing = asyncio.Lock()

    @classmethod
    async def open(cls, database: Path) -> Store:
        """Open, and bring the tables to the newest migration. Raises `StudioloError` where that is impossible."""
        database.touch(mode=0o600, exist_ok=True)
        url = f"sqlite+aiosqlite:///{database}"
        engine = create_async_engine(url)
        event.listen(engine.sync_engine, "connect", _configure_sqlite)
        try:
            async with engine.connect() as connection:
                revision = await connection.run_sync(_revision)
            if revision != HEAD:
                await engine.dispose()
                # In a process of its own: Alembic would keep 10 MB of memory for a second's work.
                await run([sys.executable, "-I", "-m", "studiolo.store.migrate", url], timeout=120)
        except (DBAPIError, ProgramFailed) as error:
            await engine.dispose()
            cause = error.completed.last_lines if isinstance(error, ProgramFailed) and error.completed else str(error)
            raise StudioloError(
                Problem(
                    "store-unusable",
                    f"the store {database.name} cannot be opened: {cause.splitlines()[-1] if cause else 'unknown'}",
                    f"look at {database}; a copy of an older one can be put in its place while Studiolo is down",
                )
            ) from error
        return cls(engine)

    async def close(self) -> None:
        await self._engine.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        async with self._session() as session:
            yield session

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """One transaction, one at a time: what is read in it is still so when it is written. Committed at the end,
        rolled back by an exception; a cancellation waits for either to end."""
        async with self._writing, self._session() as session:
            try:
                yield session
            except BaseException:
                await _to_its_end(session.rollback())
                raise
            await _to_its_end(session.commit())


async def _to_its_end(ending: Coroutine[Any, Any, None]) -> None:
    """Await it, and if cancelled meanwhile, first let it end: a session must not be closed under it."""
    task = asyncio.ensure_future(ending)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _configure_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    # WAL: readers never wait for the writer, and a crash loses at most what was not committed.
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
        "busy_timeout=5000",
        "cache_size=-2000",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
