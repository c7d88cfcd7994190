"""What happened, kept in the store and told to whoever listens.

An event has an id that only grows. `tell` passes on what is not worth keeping (the progress of a build): it carries the
id of the last event kept, so a reader that goes on after an id misses nothing that was.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime

from sqlalchemy import delete, func, select

from studiolo.resources import Event
from studiolo.store.database import Store
from studiolo.store.tables import EventRow

# A reader that falls this far behind is cut off and reads on from the store.
_BACKLOG = 1000
KEPT_DAYS = 90


class Journal:
    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._last = 0
        # By what they read: an account's events, of one workspace or (None) of all.
        self._readers: defaultdict[tuple[str | None, str | None], set[asyncio.Queue[Event]]] = defaultdict(set)

    async def open(self) -> None:
        async with self._store.write() as session:
            await session.execute(delete(EventRow).where(EventRow.at < self._clock() - KEPT_DAYS * 86400))
            self._last = await session.scalar(select(func.max(EventRow.id))) or 0

    async def record(
        self,
        kind: str,
        message: str,
        *,
        account_id: str | None = None,
        workspace: tuple[str, str] | None = None,
        seconds: float | None = None,
    ) -> Event:
        """Keep an event and pass it on. `workspace` is (id, name)."""
        row = EventRow(
            at=self._clock(),
            workspace_id=workspace[0] if workspace else None,
            workspace_name=workspace[1] if workspace else None,
            account_id=account_id,
            kind=kind,
            message=message,
            seconds=seconds,
        )
        async with self._store.write() as session:
            session.add(row)
            await session.flush()
        self._last = row.id
        event = as_event(row)
        self._pass_on(account_id, event)
        return event

    def tell(self, kind: str, message: str, *, account_id: str | None, workspace: tuple[str, str]) -> None:
        """Pass on an event that is not kept."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        event = Event(
            id=self._last, at=now, workspace=workspace[0], workspace_name=workspace[1], kind=kind, message=message
        )
        self._pass_on(account_id, event)

    def _pass_on(self, account_id: str | None, event: Event) -> None:
        for workspace_id in {None, event.workspace}:
            readers = self._readers.get((account_id, workspace_id), set())
            for reader in list(readers):
                if reader.qsize() < _BACKLOG:
                    reader.put_nowait(event)
                else:
                    readers.discard(reader)

    async def history(self, account_id: str, workspace_id: str | None, after: int = 0, limit: int = 200) -> list[Event]:
        """The newest `limit` events after an id, oldest first."""
        query = select(EventRow).where(EventRow.account_id == account_id, EventRow.id > after)
        if workspace_id is not None:
            query = query.where(EventRow.workspace_id == workspace_id)
        async with self._store.read() as session:
            rows = (await session.scalars(query.order_by(EventRow.id.desc()).limit(limit))).all()
        return [as_event(row) for row in reversed(rows)]

    async def latest(self, workspace_id: str, kinds: Sequence[str]) -> datetime | None:
        """When an event of one of these kinds was last told of a workspace."""
        query = select(func.max(EventRow.at)).where(EventRow.workspace_id == workspace_id, EventRow.kind.in_(kinds))
        async with self._store.read() as session:
            at = await session.scalar(query)
        return datetime.fromtimestamp(at, UTC) if at is not None else None

    async def follow(self, account_id: str, after: int | None, workspace_id: str | None) -> AsyncIterator[Event]:
        """Events as they happen; with `after`, first those kept since that id. Ends only by being closed."""
        queue: asyncio.Queue[Event] = asyncio.Queue()
        readers = self._readers[account_id, workspace_id]
        readers.add(queue)
        seen = self._last if after is None else after
        try:
            if after is not None:
                for event in await self.history(account_id, workspace_id, after, limit=_BACKLOG):
                    seen = event.id
                    yield event
            while queue in readers or not queue.empty():
                event = await queue.get()
                if event.kind == "progress" or event.id > seen:
                    seen = max(seen, event.id)
                    yield event
        finally:
            readers.discard(queue)
            if not readers and self._readers.get((account_id, workspace_id)) is readers:
                del self._readers[account_id, workspace_id]


def as_event(row: EventRow) -> Event:
    return Event(
        id=row.id,
        at=datetime.fromtimestamp(row.at, UTC),
        workspace=row.workspace_id,
        workspace_name=row.workspace_name,
        kind=row.kind,
        message=row.message,
        seconds=row.seconds,
    )
