"""Looking after what runs: usage for the charts, evidence for idleness, and stopping what is idle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from studiolo.apps.app import AppKind
from studiolo.control import idle
from studiolo.control.subject import Subject, load_subjects
from studiolo.control.usage import SAMPLE_EVERY, UsageSampler
from studiolo.layout import Layout
from studiolo.names import Label
from studiolo.problem import StudioloError
from studiolo.store.database import Store

log = structlog.get_logger()


class Watcher:
    """`stop_idle(workspace id, run, why)` is called for what has been unused for as long as its document says."""

    def __init__(
        self,
        store: Store,
        layout: Layout,
        apps: Mapping[str, AppKind],
        usage: UsageSampler,
        stop_idle: Callable[[str, str, str], Awaitable[None]],
    ) -> None:
        self._store = store
        self._layout = layout
        self._apps = apps
        self._usage = usage
        self._stop_idle = stop_idle
        self._watches: dict[str, idle.Watch] = {}

    async def run(self) -> None:
        while True:
            try:
                await self.round()
            except StudioloError as error:
                log.warning("usage is not known", problem=str(error.problem))
            except Exception:
                log.exception("watching failed")
            await asyncio.sleep(SAMPLE_EVERY)

    async def round(self) -> None:
        running = [subject for subject in await load_subjects(self._store) if subject.phase == "running"]
        await self._usage.sample(running)
        used = [subject for subject in running if subject.spare is None]  # nobody has a spare yet
        self._watches = {subject.id: await self._look(subject) for subject in used}
        now = asyncio.get_running_loop().time()
        for subject in used:
            watch = self._watches[subject.id]
            if idle.is_idle(watch, subject.document.idle.after, now):
                await self._stop_idle(subject.id, subject.run, idle.explain(watch, now))

    async def _look(self, subject: Subject) -> idle.Watch:
        watch = self._watches.get(subject.id)
        now = asyncio.get_running_loop().time()
        if subject.document.idle.after is None:
            return watch or idle.Watch(subject.run, now, "", {})
        return idle.look(watch, subject.run, await self._evidence(subject), now)

    async def _evidence(self, subject: Subject) -> idle.Evidence:
        busy: list[str] = []
        unknown: list[str] = []
        stamps: dict[str, float] = {}
        for app in subject.document.apps:
            socket = self._layout.app_sockets(subject.id) / f"{app.name}.sock"
            edge = self._layout.activity / str(Label(app.name, subject.name, subject.owner))
            if edge.exists():
                stamps[f"{app.name} (typing)"] = edge.stat().st_mtime
            if not socket.exists():
                continue
            activity = await self._apps[app.kind].activity(socket)
            if activity is None:
                # A person's own program says nothing of itself; what it does must do.
                if self._apps[app.kind].tools(app) is not None:
                    unknown.append(f"{app.name} did not say")
            elif activity.busy:
                busy.append(activity.why)
            elif activity.last is not None:
                stamps[app.name] = activity.last
        point = self._usage.latest.get(subject.id)
        if point is None:
            unknown.append("its use of the processor is not known")
        elif point.cpu >= idle.BUSY_CORES:
            busy.append(f"it computes ({point.cpu:.1f} cores)")
        if subject.relock is not None:
            busy.append("its environment is being renewed")
        if (self._layout.workspace_home(subject.id) / ".noidle").exists():
            busy.append("there is a .noidle file in the home")
        return idle.Evidence(busy, unknown, stamps)
