"""Whose environments one may see and change."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from pathlib import Path
from types import MappingProxyType

import pytest

from studiolo.apps.kinds import KINDS
from studiolo.control.access import Access, Account
from studiolo.control.carry_out import Steps
from studiolo.control.environments import Environments
from studiolo.control.journal import Journal
from studiolo.control.lineage import Entry, Line, Lineage
from studiolo.control.queue import FairQueue
from studiolo.control.reconcile import Reconciler
from studiolo.control.renewal import Renewal
from studiolo.control.secrets import Secrets
from studiolo.control.studio import Studio
from studiolo.control.tools import ToolInstaller
from studiolo.control.usage import UsageSampler
from studiolo.control.warming import Warming
from studiolo.edge.edge import Edge
from studiolo.environments.generations import Generations
from studiolo.environments.kind import Lock
from studiolo.environments.kinds import kinds
from studiolo.layout import Layout
from studiolo.problem import Denied, NotFound
from studiolo.resources import WorkspaceCreate
from studiolo.store.database import Store

BOB = Account("b0b", "bob", "member")
METHODS = sorted(
    name
    for name, method in inspect.getmembers(Environments, inspect.isfunction)
    if list(inspect.signature(method).parameters)[1:3] == ["account", "ref"]
)


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[tuple[Studio, Account]]:
    """The real thing on a real store; nothing of it runs."""
    layout = Layout(tmp_path / "home")
    layout.prepare()
    store = await Store.open(layout.database)
    access = Access(store, layout, lambda: 1000.0)
    ada = await access.first_account("ada")
    generations = Generations(layout.generations, layout.cache, {})
    lineage = Lineage(store, lambda: 1000.0)
    steps = Steps(
        store=store,
        layout=layout,
        journal=Journal(store, lambda: 1000.0),
        access=access,
        backends={},
        renewal=Renewal(lineage, generations, kinds(layout.cache), Secrets(store, layout), layout),
        apps=KINDS,
        tools=ToolInstaller(store, generations, MappingProxyType({}), lambda: 1000.0, lambda: None),
        queue=FairQueue(1),
        origin="http://localhost:8800",
        clock=lambda: 1000.0,
    )
    usage, warming = UsageSampler(store, layout, {}, lambda: 1000.0), Warming(steps, "ada", "local")
    made = Studio(steps, Reconciler(steps), usage, Edge(layout), warming, lambda: None)
    workspace = await made.create(ada, WorkspaceCreate(name="room", start=False))
    lock = Lock("uv", "six==1\n", "3.11.7", "linux", {})
    await lineage.keep(lock, "0")
    await lineage.record(Line("workspace", workspace.id), Entry(lock.id, "ada", "packages", "0", {}))
    yield made, ada
    await store.close()


async def test_what_belongs_to_somebody_else_is_not_there(studio: tuple[Studio, Account]) -> None:
    made, ada = studio
    assert len(METHODS) >= 10
    for name in METHODS:
        method = getattr(made.environments, name)
        parameters = list(inspect.signature(method).parameters.values())[2:]
        required = [each for each in parameters if each.default is inspect.Parameter.empty]
        asked = method(BOB, "room", *("requirements" if each.name == "form" else 1 for each in required))
        with pytest.raises(NotFound, match="there is no workspace named room"):
            await (anext(asked) if inspect.isasyncgen(asked) else asked)
    (only,) = await made.environments.of_workspace(ada, "room")
    assert (only.number, only.built, only.by) == (1, False, "ada")


async def test_only_the_owner_of_the_installation_removes_environments(studio: tuple[Studio, Account]) -> None:
    made, ada = studio
    with pytest.raises(Denied):
        await made.collect(BOB)
    assert (await made.collect(ada, dry_run=True)).generations == ()
    with pytest.raises(Denied):
        await made.collect(BOB, dry_run=True)
