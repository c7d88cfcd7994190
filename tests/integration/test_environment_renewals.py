"""What becomes of an environment when it is renewed: on a real store and disk, with a kind that fails at will."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest
from sqlalchemy import select

from studiolo.apps.kinds import KINDS
from studiolo.control.access import Access, Account
from studiolo.control.carry_out import Steps
from studiolo.control.collect import collect
from studiolo.control.journal import Journal
from studiolo.control.lineage import Line, Lineage
from studiolo.control.queue import FairQueue
from studiolo.control.reconcile import Reconciler
from studiolo.control.renewal import Renewal
from studiolo.control.secrets import Secrets
from studiolo.control.studio import Studio
from studiolo.control.subject import Subject, load_subjects
from studiolo.control.tools import ToolInstaller
from studiolo.control.usage import UsageSampler
from studiolo.control.warming import Warming
from studiolo.edge.edge import Edge
from studiolo.environments.generations import Generations
from studiolo.environments.kind import Index, Lock, Report, Request
from studiolo.layout import Layout
from studiolo.problem import Problem, StudioloError
from studiolo.resources import Reason, WorkspaceCreate
from studiolo.store.database import Store
from studiolo.store.tables import AccountRow, WorkspaceRow
from test_environments_generations import StepKind


class Numbers(StepKind):
    """Every time it locks, the next number is what is to be installed. `fault` is raised by all it does."""

    name = "uv"

    def __init__(self) -> None:
        super().__init__()
        self.go.set()
        self.locked = 0
        self.fault: Callable[[], Exception] | None = None

    async def lock(self, request: Request, report: Report) -> Lock:
        self.locked += 1
        if self.fault is not None:
            raise self.fault()
        return Lock("uv", f"{self.locked}\n", "", "linux", {})

    async def build(self, lock: Lock, folder: Path, report: Report, indexes: Sequence[Index] = ()) -> None:
        if self.fault is not None:
            raise self.fault()
        (folder / "number").write_text(lock.text)


@dataclass
class Place:
    studio: Studio
    steps: Steps
    kind: Numbers
    ada: Account

    async def make(self, account: Account | None = None, **environment: object) -> str:
        document = {
            "apps": [{"name": "echo", "kind": "command", "command": ["serve", "{port}"]}],
            "environment": environment,
        }
        wish = WorkspaceCreate(name="room", document=document, start=False)
        return (await self.studio.create(account or self.ada, wish)).id

    async def row(self, workspace: str) -> WorkspaceRow:
        async with self.steps.store.read() as session:
            return await session.get_one(WorkspaceRow, workspace)

    async def change(self, workspace: str, **values: object) -> None:
        async with self.steps.store.write() as session:
            row = await session.get_one(WorkspaceRow, workspace)
            for name, value in values.items():
                setattr(row, name, value)

    async def subject(self, workspace: str) -> Subject:
        return next(each for each in await load_subjects(self.steps.store) if each.id == workspace)

    async def renew(self, workspace: str) -> WorkspaceRow:
        """The step that the control loop takes once somebody has asked."""
        await self.change(workspace, relock=(await self.row(workspace)).relock or {"upgrade": []})
        await self.steps.build(await self.subject(workspace))
        return await self.row(workspace)

    async def states(self, workspace: str) -> list[str]:
        return [row.state for row in await self.steps.renewal.lineage.all(Line("workspace", workspace))]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    layout = Layout(tmp_path / "home")
    layout.prepare()
    store = await Store.open(layout.database)
    access = Access(store, layout, lambda: 1000.0)
    ada = await access.first_account("ada")
    kind = Numbers()
    generations = Generations(layout.generations, layout.cache, {"uv": kind}, reserve=0, clock=lambda: 1000.0)
    renewal = Renewal(
        Lineage(store, lambda: 1000.0), generations, {"uv": kind}, Secrets(store, layout, lambda: 1000.0), layout
    )
    steps = Steps(
        store=store,
        layout=layout,
        journal=Journal(store, lambda: 1000.0),
        access=access,
        backends={},
        renewal=renewal,
        apps=KINDS,
        tools=ToolInstaller(store, generations, MappingProxyType({}), lambda: 1000.0, lambda: None),
        queue=FairQueue(1),
        origin="http://localhost:8800",
        clock=lambda: 1000.0,
    )
    usage, warming = UsageSampler(store, layout, {}, lambda: 1000.0), Warming(steps, "ada", "local")
    studio = Studio(steps, Reconciler(steps), usage, Edge(layout), warming, lambda: None)
    yield Place(studio, steps, kind, ada)
    await store.close()


@pytest.mark.parametrize(
    ("fault", "code"),
    [(lambda: OSError(errno.ENOSPC, "No space left on device"), "system"), (lambda: KeyError("x"), "internal")],
)
async def test_whatever_goes_wrong_is_told_and_tried_once(
    place: Place, fault: Callable[[], Exception], code: str
) -> None:
    room = await place.make()
    place.kind.fault = fault
    with pytest.raises(StudioloError):
        await place.renew(room)
    row = await place.row(room)
    assert (row.generation, row.relock, (row.trouble or {})["code"]) == (None, None, code)

    place.kind.fault = None
    first = (await place.renew(room)).generation
    assert first is not None
    place.kind.fault = fault
    row = await place.renew(room)
    assert (row.generation, row.relock, (row.trouble or {})["code"]) == (first, None, code)
    assert row.remarks[0].startswith("the environment stays on generation 1")


@pytest.mark.parametrize("phase", ["starting", "running"])
async def test_a_run_of_the_former_environment_is_replaced(place: Place, phase: str) -> None:
    room = await place.make()
    before = (await place.renew(room)).run
    await place.change(room, desired="running", phase=phase)
    row = await place.renew(room)
    assert row.run != before, "what runs, or is about to, is in generation 1"
    await place.change(room, phase=phase, relock={})
    await place.steps.build(await place.subject(room))
    assert (await place.row(room)).run == row.run, "nothing has changed"


async def test_a_rollback_that_cannot_be_had_leaves_no_generation(place: Place) -> None:
    room = await place.make()
    await place.renew(room)
    second = (await place.renew(room)).generation
    assert (await collect(place.steps, keep=1)).freed > 0
    await place.studio.environments.rollback(place.ada, room)
    assert (await place.row(room)).relock == {"number": 1}
    assert await place.states(room) == ["good", "good"]
    assert (await place.row(room)).generation == second
    await place.renew(room)
    assert await place.states(room) == ["good", "left"]
    assert (await place.row(room)).generation != second


async def test_what_is_about_to_be_used_is_not_cleared_away(place: Place) -> None:
    room = await place.make()
    first = (await place.renew(room)).generation
    assert first is not None
    await place.renew(room)
    place.steps.renewal.needed["elsewhere"] = first
    assert (await collect(place.steps, keep=0)).generations == ()
    place.steps.renewal.needed.clear()
    assert (await collect(place.steps, keep=0, dry_run=True)).generations == (first,)
    assert (await collect(place.steps, keep=0)).generations == (first,)


async def test_downloads_are_cleared_away(place: Place) -> None:
    downloads = place.steps.layout.cache / "uv"
    downloads.mkdir(parents=True)
    (downloads / "wheel").write_bytes(b"x" * 100_000)
    assert (await collect(place.steps, downloads=True, dry_run=True)).freed >= 100_000
    assert downloads.exists()
    assert (await collect(place.steps, downloads=True)).freed >= 100_000
    assert not downloads.exists()
    assert list((place.steps.layout.cache / "scratch").iterdir()) == []


async def test_who_waits_hears_that_it_was_given_up(place: Place) -> None:
    room = await place.make()
    await place.renew(room)
    await place.change(room, desired="running", phase="running")
    await place.studio.environments.update(place.ada, room)
    assert await place.studio.environments.cancel(place.ada, room)
    workspace = await place.studio.workspace(place.ada, room)
    assert (workspace.renewing, workspace.desired) == (False, "running")
    assert workspace.trouble is not None
    assert workspace.trouble.code == "build-given-up"
    assert not await place.studio.environments.cancel(place.ada, room)
    await place.studio.environments.update(place.ada, room)
    assert (await place.row(room)).trouble is None, "it is of what was asked for last"


async def test_why_it_cannot_be_built_again_is_told_in_the_stream(place: Place) -> None:
    room = await place.make()
    await place.renew(room)
    place.kind.fault = lambda: StudioloError(Problem("package-not-found", "six is gone", "look elsewhere"))
    (last,) = [each async for each in place.studio.environments.verify(place.ada, room)]
    assert (last.done, last.same) == (True, False)
    assert last.problem == Reason(code="package-not-found", message="six is gone", hint="look elsewhere")


async def test_stopping_gives_up_the_first_build_too(place: Place) -> None:
    room = await place.make()
    await place.studio.restart(place.ada, room)
    assert (await place.studio.stop(place.ada, room)).renewing is False


async def test_what_somebody_got_by_logging_in_is_not_handed_to_others(place: Place) -> None:
    bob = Account("b0b", "bob", "member")
    async with place.steps.store.write() as session:
        session.add(AccountRow(id=bob.id, name=bob.name, role=bob.role, created=0.0))
    private = {"url": "https://packages.example.org/simple/", "secret": "key"}
    await place.studio.secrets.put(place.ada, "key", "ada:right")
    ours = await place.make(packages=["six"], indexes=[private])
    await place.change(ours, relock={"adopted": []})
    await place.renew(ours)
    theirs = await place.make(bob, packages=["six"], indexes=[{**private, "secret": None}])
    await place.change(theirs, relock={"adopted": []})
    await place.renew(theirs)
    assert place.kind.locked == 2
    async with place.steps.store.read() as session:
        found = list(await session.scalars(select(WorkspaceRow.generation)))
    assert len(set(found)) == 2
