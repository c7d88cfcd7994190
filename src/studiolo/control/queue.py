"""Starts wait their turn: bounded by the machine, fair between people, never refused."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class FairQueue:
    """`slots` at once; those who wait take turns by owner, each owner's own in order of arrival."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._waiting: OrderedDict[str, deque[tuple[asyncio.Future[None], Callable[[int], None]]]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, owner: str, waiting: Callable[[int], None]) -> AsyncIterator[None]:
        """Hold a slot. `waiting` hears the place in the queue (1 is next) whenever it changes."""
        await self._enter(owner, waiting)
        try:
            yield
        finally:
            self._free += 1
            self._admit()

    async def _enter(self, owner: str, waiting: Callable[[int], None]) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (turn, waiting)
        self._waiting.setdefault(owner, deque()).append(entry)
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._free += 1
            else:
                line = self._waiting[owner]
                line.remove(entry)
                if not line:
                    del self._waiting[owner]
            self._admit()
            raise

    def _admit(self) -> None:
        while self._free and self._waiting:
            owner, line = self._waiting.popitem(last=False)
            turn, _ = line.popleft()
            if line:
                self._waiting[owner] = line  # goes to the back: the next turn is somebody else's
            self._free -= 1
            turn.set_result(None)
        for place, (_, waiting) in enumerate(self._order(), start=1):
            waiting(place)

    def _order(self) -> list[tuple[asyncio.Future[None], Callable[[int], None]]]:
        lines = [list(line) for line in self._waiting.values()]
        return [line[turn] for turn in range(max(map(len, lines), default=0)) for line in lines if turn < len(line)]
