"""Carrying out the steps: each function does what one step of `decide` asks for and writes down what came of it.

A step may be interrupted anywhere (cancelled, or the control plane killed): what it made is found again by observing,
and the same decision leads to the same step.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog
from packaging.utils import canonicalize_name

from studiolo.apps.app import AppKind
from studiolo.backends.backend import Backend, Observation
from studiolo.control import repository, setup, software
from studiolo.control.access import Access
from studiolo.control.journal import Journal
from studiolo.control.launch import Room, can_write, compose, wanted_tools
from studiolo.control.queue import FairQueue
from studiolo.control.renewal import Relock, Renewal, Renewed, in_words
from studiolo.control.software import Software
from studiolo.control.subject import Subject, as_problem, as_reason, new_run
from studiolo.control.tools import ToolInstaller
from studiolo.environments import overlay
from studiolo.environments.kind import Progress, Report
from studiolo.layout import Layout
from studiolo.problem import Problem, StudioloError
from studiolo.resources import Phase
from studiolo.store.database import Store
from studiolo.store.tables import WorkspaceRow

log = structlog.get_logger()

STOP_GRACE = 10.0
"""Seconds between asking the processes to end and killing them."""
_POLL = 0.03
HOME_FULL = (
    "rescue mode: the home is full or cannot be written, so settings are kept outside it until the next start; "
    "free some space, then restart"
)

RESCUE = (
    "rescue mode: a minimal environment, without what was installed by hand and without your settings; your files are "
    "all there, and `studiolo restart` goes back to the workspace's own environment"
)


@dataclass
class Steps:
    store: Store
    layout: Layout
    journal: Journal
    access: Access
    backends: Mapping[str, Backend]
    renewal: Renewal
    apps: Mapping[str, AppKind]
    tools: ToolInstaller
    queue: FairQueue
    origin: str
    clock: Callable[[], float]
    progress: dict[str, str] = field(default_factory=dict)
    """What each workspace is doing right now, in words."""
    _preparing: set[asyncio.Task[None]] = field(default_factory=set)

    async def build(self, subject: Subject) -> None:
        """Fetch the repository, renew the environment, and have the tools of at least one app.

        Where the environment cannot be had, it stays on the generation it has, and `trouble` says why.
        """
        async with self.queue.turn(subject.owner, self._queued(subject)):
            if subject.phase not in ("running", "stopped", "failed"):
                await self._enter(subject, "building", stages=[])
            home = self.layout.workspace_home(subject.id)
            tools = asyncio.create_task(self._any_tools(subject)) if subject.desired == "running" else None
            renewed = None
            try:
                if subject.relock is not None or not subject.rescue:
                    renewed = await self._renew_or_give_up(subject, home)
                if tools is not None:
                    if not tools.done():
                        self._say(subject, "installing JupyterLab and VS Code for the first time")
                    await tools
            finally:
                if tools is not None:
                    tools.cancel()
                    await asyncio.gather(tools, return_exceptions=True)
                self.progress.pop(subject.id, None)
                if renewed is not None:  # it is there, whether an app can be installed or not
                    await self._renewed(subject, home, renewed)
                self.renewal.needed.pop(subject.id, None)

    async def _renew_or_give_up(self, subject: Subject, home: Path) -> Renewed:
        try:
            return await self._renew(subject, home)
        except Exception as error:
            # somebody waits for an answer: neither what cannot be had nor what could not be reached is tried for ever
            problem = await self._told(subject, error)
            async with self.store.write() as session:
                row = await session.get_one(WorkspaceRow, subject.id)
                if row.run == subject.run and row.relock == subject.relock:
                    row.relock = None
            raise StudioloError(*(error.problems if isinstance(error, StudioloError) else (problem,))) from error

    async def _renew(self, subject: Subject, home: Path) -> Renewed:
        asked, tenant = subject.document.environment, subject.tenant
        relock = Relock.of(subject.relock) if subject.relock is not None else None

        async def stage(name: str, begun: float, words: str) -> None:
            await self._stage(subject, name, begun, words)

        try:
            home.mkdir(parents=True, exist_ok=True)
            folder = await repository.ensure(subject.document.repository, home)
            renewed = await self.renewal.renew(tenant, asked, folder, relock, self._reporting(subject), stage)
        except Exception as error:
            fallback = await self.renewal.fallback(tenant)
            if fallback is None:
                raise
            problem = await self._told(subject, error)
            words = f"the environment stays on generation {fallback.number}: {problem}"
            await self._record(subject, "environment-failed", words)
            return replace(fallback, notes=(words,))
        await self._trouble(subject, None)
        return renewed

    def _drop_adopted(self, home: Path, renewed: Renewed) -> None:
        """What the generation has now, in the version that somebody installed, is not needed in the overlay too."""
        kind, generation = self.renewal.kinds[renewed.generation.kind], renewed.generation
        there = {
            canonicalize_name(each.name): each.version for each in kind.describe(generation.lock, generation.folder)
        }
        installed = [each for each in overlay.packages(home) if not each.editable]
        doubled = [each.name for each in installed if there.get(canonicalize_name(each.name)) == each.version]
        overlay.remove(home, doubled)

    async def _renewed(self, subject: Subject, home: Path, renewed: Renewed) -> None:
        """Take it. A run that goes on meanwhile is replaced by a new one, if its environment is another now."""
        generation = renewed.generation
        async with self.store.write() as session:
            row = await session.get_one(WorkspaceRow, subject.id)
            if row.run != subject.run or row.relock != subject.relock:
                return  # meanwhile something else is asked for
            moved = row.generation != generation.id
            row.generation, row.relock = generation.id, None
            row.environment = in_words(generation, renewed.source)
            row.remarks = list(renewed.notes)
            if moved and row.desired == "running" and not row.rescue:
                # also where it was only being started: what there is of this run is in the former environment
                row.run = new_run()
                if row.phase == "running":
                    row.phase, row.phase_since = "pending", self.clock()
        if moved:
            await self._record(subject, "generation", f"generation {renewed.number}: {row.environment}")
        if subject.relock is not None and Relock.of(subject.relock).adopted:
            # not before: a run that could not be replaced would miss it. What cannot be removed does no harm
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._drop_adopted, home, renewed)

    async def _told(self, subject: Subject, error: Exception) -> Problem:
        """Write down why the environment that was asked for cannot be had."""
        problem = as_problem(error)
        if problem.code == "internal":
            log.exception("renewing failed", workspace=subject.name)
        await self._trouble(subject, {**as_reason(problem), "log": list(self.renewal.log_end(subject.id))})
        return problem

    async def _trouble(self, subject: Subject, trouble: dict[str, Any] | None) -> None:
        async with self.store.write() as session:
            row = await session.get_one(WorkspaceRow, subject.id)
            row.trouble = trouble

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
            launch, notes = await asyncio.to_thread(compose, room, self.layout, self.apps, self.origin)
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
                await self.ready(subject, seen, *notes)
        if subject.document.setup and not subject.prepared and not subject.rescue:
            # beside everything else: it may take long, and people work meanwhile
            task = asyncio.create_task(self._prepare(subject), name=f"setup of {subject.name}")
            self._preparing.add(task)
            task.add_done_callback(self._preparing.discard)

    async def close(self) -> None:
        """Give up what goes on beside the steps. `setup` that has not ended is run again at the next start."""
        for task in self._preparing:
            task.cancel()
        await asyncio.gather(*self._preparing, return_exceptions=True)

    async def _prepare(self, subject: Subject) -> None:
        """Run the `setup` commands, once in a workspace's life. One that fails is told and keeps nobody from work."""
        log_file = self.layout.workspace_logs(subject.id) / "setup.log"
        command, status = "", 0
        for command in subject.document.setup:
            self._say(subject, f"setup: {command}")
            begun = self._now()
            try:
                status = await setup.run(self.backends[subject.backend], subject.id, command, log_file)
            except StudioloError as error:  # stopped, or its host agent died: at the next start it is run again
                log.warning("setup was cut off", workspace=subject.name, problem=str(error.problem))
                self.progress.pop(subject.id, None)
                return
            if await self._observe(subject) is None:
                return  # it was stopped, and the command with it
            how = "done" if status == 0 else f"failed with exit status {status}; see {log_file}"
            await self._record(subject, "setup", f"{command}: {how}", round(self._now() - begun, 3))
            if status != 0:
                break
        self.progress.pop(subject.id, None)
        async with self.store.write() as session:
            row = await session.get_one(WorkspaceRow, subject.id)
            row.prepared = True
            if status != 0:
                row.notes = [*row.notes, f"setup failed: {command}; its output is in {log_file}"]

    async def ready(self, subject: Subject, seen: Observation, *notes: str) -> None:
        async with self.store.write() as session:
            row = await session.get_one(WorkspaceRow, subject.id)
            if row.run == subject.run and row.phase != "running":
                row.phase, row.phase_since, row.started, row.reason = "running", self.clock(), self.clock(), None
                row.notes = [*notes, *row.remarks, *seen.notes]
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
            row.reason, row.relock = as_reason(problem), None  # it stays until asked again
        self.progress.pop(subject.id, None)
        await self._record(subject, "failed", str(problem))

    async def remove(self, subject: Subject) -> None:
        """Forget it; with `purge` its files go too. The home of one that was not purged stays where it is."""
        await self.backends[subject.backend].delete(subject.id)
        await self.access.forget(subject.id)
        await self.renewal.lineage.forget(subject.tenant.line)
        self.renewal.building.pop(subject.id, None)
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
        wanted = wanted_tools(subject.document, self.apps)
        home = self.layout.workspace_home(subject.id)
        folder = repository.folder_of(subject.document.repository, home)
        if subject.rescue:  # it starts before anything was built, and whatever has become of the repository
            home.mkdir(parents=True, exist_ok=True)
            folder = folder if folder is not None and folder.is_dir() else None
        for source in subject.document.data:
            if source.folder is None:
                (home / source.place).mkdir(parents=True, exist_ok=True)
        places = {name: self.tools.generation(tools) if tools else None for name, tools in wanted.items()}
        full = not await asyncio.to_thread(can_write, home)
        software = await self._software(subject, home, full)
        notes = [*([HOME_FULL] if full else []), *([RESCUE] if subject.rescue else [])]
        return Room(
            id=subject.id,
            run=subject.run,
            name=subject.name,
            owner=subject.owner,
            document=subject.document,
            folder=folder,
            software=software,
            rescue=full or subject.rescue,
            notes=tuple(notes),
            tools={name: place.folder if (place := places[name]) else None for name in apps},
        )

    async def _software(self, subject: Subject, home: Path, full: bool) -> Software:
        if subject.rescue:
            return await software.minimal(self.tools, self.apps)
        generation = self.renewal.generations.find(subject.generation or "")
        if generation is None:
            raise StudioloError(Problem("generation-missing", "its environment is gone", "studiolo restart"))
        kind = self.renewal.kinds[generation.kind]
        verdict = self.renewal.generations.verdict(generation.id)
        ahead = software.worth_importing(generation, kind, subject.document.environment.preload, verdict)
        place = None if full else home
        return await asyncio.to_thread(software.of, generation, kind, subject.name, place, self.layout, ahead)

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
            kind, message, account_id=subject.audience, workspace=(subject.id, subject.name), seconds=seconds
        )

    def _say(self, subject: Subject, words: str) -> None:
        if self.progress.get(subject.id) != words:
            self.progress[subject.id] = words
            self.journal.tell("progress", words, account_id=subject.audience, workspace=(subject.id, subject.name))

    def _queued(self, subject: Subject) -> Callable[[int], None]:
        return lambda place: self._say(subject, f"waiting for its turn: number {place} in the queue")

    def _reporting(self, subject: Subject) -> Report:
        def report(progress: Progress) -> None:
            count = f" ({progress.done} of {progress.total})" if progress.done and progress.total else ""
            self._say(subject, f"{progress.message}{count}")

        return report

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
