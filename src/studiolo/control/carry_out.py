"""Carrying out the steps: each function does what one step of `decide` asks for and writes down what came of it.

A step may be interrupted anywhere (cancelled, or the control plane killed): what it made is found again by observing,
and the same decision leads to the same step.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import func, select

from studiolo.apps.app import AppKind
from studiolo.backends.backend import Backend, Observation
from studiolo.control import repository
from studiolo.control.access import Access
from studiolo.control.journal import Journal
from studiolo.control.launch import Room, can_write, compose, wanted_tools
from studiolo.control.queue import FairQueue
from studiolo.control.tools import ToolInstaller
from studiolo.environments.generations import Generation, Generations
from studiolo.environments.kind import Kind, Progress, Report, Request
from studiolo.environments.kinds import detect
from studiolo.layout import Layout
from studiolo.problem import Problem, StudioloError
from studiolo.resources import Phase
from studiolo.spec.document import Resolved
from studiolo.store.database import Store
from studiolo.store.tables import AccountRow, WorkspaceGenerationRow, WorkspaceRow

log = structlog.get_logger()

# How people are told what an environment was made from, where that is not a file.
_SOURCES = {"default": "the default packages", "packages": "the packages in studiolo.yaml"}

STOP_GRACE = 10.0
"""Seconds between asking the processes to end and killing them."""
_POLL = 0.03
RESCUE = (
    "rescue mode: the home is full or cannot be written, so settings are kept outside it until the next start; "
    "free some space, then restart"
)


@dataclass(frozen=True)
class Subject:
    """The workspace a step is about, as loaded; `run` and `document` are what the step was decided on."""

    id: str
    name: str
    owner_id: str
    owner: str
    backend: str
    run: str
    phase: Phase
    document: Resolved
    generation: str | None
    desired: str
    purge: bool


@dataclass
class Steps:
    store: Store
    layout: Layout
    journal: Journal
    access: Access
    backends: Mapping[str, Backend]
    generations: Generations
    environments: Mapping[str, Kind]
    apps: Mapping[str, AppKind]
    tools: ToolInstaller
    queue: FairQueue
    origin: str
    clock: Callable[[], float]
    progress: dict[str, str] = field(default_factory=dict)
    """What each workspace is doing right now, in words."""

    async def build(self, subject: Subject) -> None:
        """Fetch the repository, lock, build, and have the tools of at least one app."""
        async with self.queue.turn(subject.owner, self._queued(subject)):
            await self._enter(subject, "building", stages=[])
            home = self.layout.workspace_home(subject.id)
            home.mkdir(parents=True, exist_ok=True)
            tools = asyncio.create_task(self._any_tools(subject))
            try:
                generation = await self._environment(subject, home)
                if not tools.done():
                    self._say(subject, "installing JupyterLab and VS Code for the first time")
                await tools
            finally:
                tools.cancel()
            async with self.store.write() as session:
                row = await session.get_one(WorkspaceRow, subject.id)
                if row.run == subject.run:
                    row.generation = generation.id

    async def _environment(self, subject: Subject, home: Path) -> Generation:
        report = self._reporting(subject)
        begun = self._now()
        folder = await repository.ensure(subject.document.repository, home)
        asked = subject.document.environment
        request = Request(folder, asked.project, asked.packages, asked.python)
        detection = detect(folder if folder is None or asked.project is None else folder / asked.project)
        kind = self.environments[detection.kind]
        lock = await kind.lock(request, report)
        source = _SOURCES.get(lock.facts.get("source", ""), lock.facts.get("source", detection.reason))
        await self._stage(subject, "locked", begun, source)
        begun = self._now()
        found = self.generations.find(lock.id)
        generation = found or await self.generations.build(lock, report)
        words = f"Python {lock.interpreter}, {generation.packages} packages, from {source}"
        await self._stage(subject, "built", begun, f"{generation.packages} packages" + (", shared" if found else ""))
        async with self.store.write() as session:
            row = await session.get_one(WorkspaceRow, subject.id)
            row.environment = words
            last = await session.scalar(
                select(WorkspaceGenerationRow)
                .where(WorkspaceGenerationRow.workspace_id == subject.id)
                .order_by(WorkspaceGenerationRow.number.desc())
                .limit(1)
            )
            if last is None or last.generation != generation.id:
                number = 1 + (last.number if last else 0)
                session.add(
                    WorkspaceGenerationRow(
                        workspace_id=subject.id, number=number, generation=generation.id, at=self.clock()
                    )
                )
        return generation

    async def _any_tools(self, subject: Subject) -> None:
        """Wait until one app can be started. All are asked for; the rest join when they are there."""
        wanted = wanted_tools(subject.document, self.apps)
        needed = [tools for tools in wanted.values() if tools is not None]
        if len(needed) < len(wanted) or any([await self.tools.find(tools) for tools in needed]):
            return
        waiting = {task for tools in needed if (task := self.tools.want(tools)) is not None}
        while waiting:
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if any(self.tools.generation(tools) for tools in needed):
                return
        problems = [problem for tools in needed if (problem := self.tools.installation(tools).problem) is not None]
        raise StudioloError(*(problems or [Problem("tools-missing", "no app of this workspace can be installed")]))

    async def start(self, subject: Subject, apps: frozenset[str]) -> None:
        """Start these apps and wait until one is ready or all have failed."""
        async with self.queue.turn(subject.owner, self._queued(subject)):
            if subject.phase != "running":
                await self._enter(subject, "starting")
            begun = self._now()
            room = await self._room(subject, apps)
            launch = await asyncio.to_thread(compose, room, self.layout, self.apps, self.origin)
            backend = self.backends[subject.backend]
            async for checkpoint in backend.start(launch):
                self._say(subject, checkpoint.message)
            if subject.phase == "running":
                self.progress.pop(subject.id, None)
                await self._record(subject, "app-started", f"{', '.join(sorted(apps))} joined")
                return
            await self._stage(subject, "started", begun, f"{', '.join(app.name for app in launch.apps)}")
            begun = self._now()
            self._say(subject, "waiting for the first app to answer")
            while True:
                seen = await self._observe(subject)
                if seen is None or any(app.state == "ready" for app in seen.apps):
                    break
                if all(app.state == "failed" for app in seen.apps):
                    return
                await asyncio.sleep(_POLL)
            if seen is not None:
                await self._stage(subject, "ready", begun, next(app.name for app in seen.apps if app.state == "ready"))
                await self.ready(subject, seen, RESCUE if room.rescue else "")

    async def ready(self, subject: Subject, seen: Observation, note: str = "") -> None:
        async with self.store.write() as session:
            row = await session.get_one(WorkspaceRow, subject.id)
            if row.run == subject.run and row.phase != "running":
                row.phase, row.phase_since, row.started, row.reason = "running", self.clock(), self.clock(), None
                row.notes = [*([note] if note else []), *seen.notes]
        self.progress.pop(subject.id, None)
        await self._record(subject, "running", "ready to be used")

    async def stop(self, subject: Subject) -> None:
        if subject.phase == "failed" and subject.desired == "running":
            await self.backends[subject.backend].stop(subject.id, STOP_GRACE)
            return
        await self._enter(subject, "deleting" if subject.desired == "deleted" else "stopping")
        if subject.desired == "deleted":
            await self.backends[subject.backend].delete(subject.id)
        else:
            await self.backends[subject.backend].stop(subject.id, STOP_GRACE)

    async def stopped(self, subject: Subject) -> None:
        await self._enter(subject, "stopped")
        await self._record(subject, "stopped", "nothing runs; the files are kept")

    async def fail(self, subject: Subject, seen: Observation | None, apps: Sequence[str], code: str) -> None:
        reasons = [f"{app.name}: {app.reason}" for app in (seen.apps if seen else ()) if app.name in apps]
        message = "\n".join(reasons) or "its processes vanished again and again"
        await self.failed(
            subject, Problem(code, message, f"studiolo logs {subject.name}; then studiolo restart {subject.name}")
        )

    async def failed(self, subject: Subject, problem: Problem) -> None:
        """Write down why. What is left running is stopped by the next decision."""
        async with self.store.write() as session:
            row = await session.get_one(WorkspaceRow, subject.id)
            if row.run != subject.run or row.desired != "running":
                return
            row.phase, row.phase_since = "failed", self.clock()
            row.reason = {"code": problem.code, "message": problem.message, "hint": problem.hint}
        self.progress.pop(subject.id, None)
        await self._record(subject, "failed", str(problem))

    async def remove(self, subject: Subject) -> None:
        """Forget it; with `purge` its files go too. The home of one that was not purged stays where it is."""
        await self.backends[subject.backend].delete(subject.id)
        await self.access.forget(subject.id)
        folder = self.layout.workspace(subject.id)
        if subject.purge:
            await asyncio.to_thread(shutil.rmtree, folder, True)
        else:
            for part in ("state", "logs"):
                await asyncio.to_thread(shutil.rmtree, folder / part, True)
        async with self.store.write() as session:
            row = await session.get(WorkspaceRow, subject.id)
            if row is not None:
                await session.delete(row)
        kept = "with its files" if subject.purge else f"its files are kept in {self.layout.workspace_home(subject.id)}"
        await self._record(subject, "deleted", f"deleted; {kept}")

    async def _room(self, subject: Subject, apps: frozenset[str]) -> Room:
        assert subject.generation is not None
        generation = self.generations.find(subject.generation)
        if generation is None:
            raise StudioloError(Problem("generation-missing", "its environment is gone", "studiolo restart"))
        wanted = wanted_tools(subject.document, self.apps)
        home = self.layout.workspace_home(subject.id)
        for source in subject.document.data:
            if source.folder is None:
                (home / source.place).mkdir(parents=True, exist_ok=True)
        kind = self.environments[generation.kind]
        places = {name: self.tools.generation(tools) if tools else None for name, tools in wanted.items()}
        return Room(
            id=subject.id,
            run=subject.run,
            name=subject.name,
            owner=subject.owner,
            document=subject.document,
            folder=repository.folder_of(subject.document.repository, home),
            environment=f"Python {generation.lock.interpreter} ({subject.name})",
            activation=kind.activate(generation.lock, generation.folder),
            rescue=not await asyncio.to_thread(can_write, home),
            tools={name: place.folder if (place := places[name]) else None for name in apps},
        )

    async def _observe(self, subject: Subject) -> Observation | None:
        for seen in await self.backends[subject.backend].observe():
            if seen.id == subject.id:
                return seen if seen.run == subject.run else None
        return None

    async def _enter(self, subject: Subject, phase: Phase, stages: list[Any] | None = None) -> None:
        async with self.store.write() as session:
            row = await session.get_one(WorkspaceRow, subject.id)
            if row.phase == phase:
                return
            row.phase, row.phase_since = phase, self.clock()
            if stages is not None:
                row.stages = stages
            if phase != "running":
                row.started = None
        self.progress.pop(subject.id, None)
        if phase != "stopped":
            await self._record(subject, phase, phase)

    async def _stage(self, subject: Subject, name: str, begun: float, message: str) -> None:
        seconds = round(self._now() - begun, 3)
        async with self.store.write() as session:
            row = await session.get_one(WorkspaceRow, subject.id)
            kept = [stage for stage in row.stages if stage["name"] != name]
            row.stages = [*kept, {"name": name, "seconds": seconds, "message": message}]
        await self._record(subject, name, message, seconds)

    async def _record(self, subject: Subject, kind: str, message: str, seconds: float | None = None) -> None:
        await self.journal.record(
            kind, message, account_id=subject.owner_id, workspace=(subject.id, subject.name), seconds=seconds
        )

    def _say(self, subject: Subject, words: str) -> None:
        if self.progress.get(subject.id) != words:
            self.progress[subject.id] = words
            self.journal.tell("progress", words, account_id=subject.owner_id, workspace=(subject.id, subject.name))

    def _queued(self, subject: Subject) -> Callable[[int], None]:
        return lambda place: self._say(subject, f"waiting for its turn: number {place} in the queue")

    def _reporting(self, subject: Subject) -> Report:
        def report(progress: Progress) -> None:
            count = f" ({progress.done} of {progress.total})" if progress.done and progress.total else ""
            self._say(subject, f"{progress.message}{count}")

        return report

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


async def load_subjects(store: Store) -> list[Subject]:
    """All workspaces, as steps see them."""
    async with store.read() as session:
        rows = (
            await session.execute(
                select(WorkspaceRow, AccountRow.name).join(AccountRow, AccountRow.id == WorkspaceRow.owner_id)
            )
        ).all()
    return [
        Subject(
            id=row.id,
            name=row.name,
            owner_id=row.owner_id,
            owner=owner,
            backend=row.backend,
            run=row.run,
            phase=row.phase,  # type: ignore[arg-type]
            document=Resolved.model_validate(row.document),
            generation=row.generation,
            desired=row.desired,
            purge=row.purge,
        )
        for row, owner in rows
    ]


async def count_phases(store: Store) -> dict[str, int]:
    async with store.read() as session:
        found = await session.execute(select(WorkspaceRow.phase, func.count()).group_by(WorkspaceRow.phase))
        return dict(found.tuples().all())
