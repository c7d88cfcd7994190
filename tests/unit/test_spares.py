"""Spares and the control loop: whoever waits for a workspace comes first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from studiolo.apps.kinds import KINDS
from studiolo.backends.backend import Observation
from studiolo.control.access import Access, Account
from studiolo.control.carry_out import Steps
from studiolo.control.journal import Journal
from studiolo.control.lineage import Lineage
from studiolo.control.queue import FairQueue
from studiolo.control.reconcile import Reconciler
from studiolo.control.renewal import Renewal
from studiolo.control.secrets import Secrets
from studiolo.control.subject import Subject, new_row
from studiolo.control.tools import ToolInstaller
from studiolo.environments.generations import Generations
from studiolo.layout import Layout
from studiolo.spec.document import App, Resolved
from studiolo.store.database import Store
from studiolo.store.tables import WorkspaceRow


class Nothing:
    """A backend on which nothing runs."""

    async def ensure(self) -> None: ...

    async def observe(self) -> Sequence[Observation]:
        return ()


@dataclass
class Builds(Steps):
    """Builds that last until they are told to end."""

    under_way: list[str] = field(default_factory=list)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)

    async def build(self, subject: Subject) -> None:
        self.under_way.append(subject.name)
        try:
            await self.may_end.wait()
            async with self.store.write() as session:
                row = await session.get_one(WorkspaceRow, subject.id)
                row.desired, row.phase = "stopped", "stopped"
        finally:
            self.under_way.remove(subject.name)


@dataclass
class Place:
    steps: Builds
    loop: Reconciler
    owner: Account

    async def make(self, name: str, spare: str | None = None) -> None:
        document = Resolved(name="board", apps=(App(name="board", command=("board", "{port}")),))
        row = new_row(self.owner.id, document, "local", "default", 1000.0, start=True)
        row.name, row.spare = name, spare
        async with self.steps.store.write() as session:
            session.add(row)

    async def rounds(self) -> list[str]:
        """What is being built after some rounds of the control loop."""
        for _ in range(3):
            await self.loop.round()
            await asyncio.sleep(0)
        return self.steps.under_way


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    layout = Layout(tmp_path / "home")
    layout.prepare()
    store = await Store.open(layout.database)
    access = Access(store, layout, lambda: 1000.0)
    owner = await access.first_account("ada")
    generations = Generations(layout.generations, layout.cache, {}, reserve=0, clock=lambda: 1000.0)
    backends: dict[str, Any] = {"local": Nothing()}
    steps = Builds(
        store=store,
        layout=layout,
        journal=Journal(store, lambda: 1000.0),
        access=access,
        backends=backends,
        renewal=Renewal(
            Lineage(store, lambda: 1000.0), generations, {}, Secrets(store, layout, lambda: 1000.0), layout
        ),
        apps=KINDS,
        tools=ToolInstaller(store, generations, MappingProxyType({}), lambda: 1000.0, lambda: None),
        queue=FairQueue(2),
        origin="http://localhost:8800",
        clock=lambda: 1000.0,
    )
    yield Place(steps, Reconciler(steps), owner)
    steps.may_end.set()
    while steps.under_way:
        await asyncio.sleep(0)
    await store.close()


async def test_a_spare_makes_way_for_whoever_wants_a_workspace(place: Place) -> None:
    await place.make("spare--1", "pool")
    assert await place.rounds() == ["spare--1"]
    await place.make("mine")
    assert await place.rounds() == ["mine"]
    place.steps.may_end.set()
    while place.steps.under_way:
        await asyncio.sleep(0.01)
    place.steps.may_end.clear()
    assert await place.rounds() == ["spare--1"]


async def test_a_spare_is_not_begun_while_somebody_waits(place: Place) -> None:
    await place.make("spare--1", "pool")
    await place.make("mine")
    assert await place.rounds() == ["mine"]
