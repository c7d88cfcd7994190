"""Who is held hears of the app, whatever happens to one look at what runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from studiolo.backends.backend import AppObservation, Observation
from studiolo.control.access import Account
from studiolo.control.holding import Holding
from studiolo.control.waking import GoOn
from studiolo.resources import AppStatus, Event, Workspace

ADA = Account("a", "ada", "owner")


def room(state: Any) -> Workspace:
    return Workspace(
        id="w", name="room", owner="ada", project="default", backend="local", phase="starting", desired="running",
        apps=(AppStatus(name="lab", kind="command", url="", state=state),),
        home="", document={}, created=datetime.now(UTC),
    )  # fmt: skip


class Trips:
    """A studio that makes a mistake at the first look, and at the first word of what happens."""

    def __init__(self) -> None:
        self.looks = 0
        self.listens = 0

    async def observe(self) -> dict[str, Observation]:
        self.looks += 1
        if self.looks == 1:
            raise ValueError("not what was expected")
        return {"w": Observation("w", "r", (AppObservation("lab", "starting"),))}

    async def as_observed(self, account: Account, ref: str, seen: Observation | None) -> Workspace:
        return room("ready" if self.listens > 1 else "starting")

    async def events(self, account: Account, after: int | None, workspace: str) -> AsyncIterator[Event]:
        self.listens += 1
        if self.listens == 1:
            raise ValueError("not what was expected")
        await asyncio.Event().wait()
        yield Event(id=1, at=datetime.now(UTC), workspace="w", workspace_name="room", kind="", message="")


async def test_holding_goes_on_after_a_mistake() -> None:
    studio: Any = Trips()
    async with asyncio.timeout(30):
        assert await Holding(studio).hold(ADA, room("starting"), "lab", "polls") == GoOn()
