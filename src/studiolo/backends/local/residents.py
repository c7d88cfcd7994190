"""All workspaces that run on this host, by id: started here, or adopted from the records of an agent before."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from studiolo.backends.backend import Checkpoint, Launch, Observation
from studiolo.backends.local import procfs
from studiolo.backends.local.cgroup import Hierarchy
from studiolo.backends.local.record import Record, Records
from studiolo.backends.local.workspace import Workspace
from studiolo.backends.local.zygotes import GROUPS, Zygotes
from studiolo.daemon import Identity
from studiolo.problem import NotFound, Problem, StudioloError

_REPLACED = 5.0  # seconds of grace for a run that another run takes the place of
log = logging.getLogger("studiolo.agent")


class Residents:
    def __init__(self, records: Records, hierarchy: Hierarchy, zygotes: Zygotes) -> None:
        self._records = records
        self._hierarchy = hierarchy
        self.zygotes = zygotes
        self._workspaces: dict[str, Workspace] = {}
        self._background: set[asyncio.Task[None]] = set()

    def adopt(self) -> int:
        """Take over what the records say; returns how many. A start or a stop that was under way is carried on."""
        for record in self._records.load():
            workspace = Workspace(record, self._records, self._hierarchy, self.zygotes)
            self._workspaces[record.launch.id] = workspace
            self._in_background(self._end(workspace) if workspace.stopping else self._go_on(workspace))
        for unknown in self._hierarchy.workspaces() - self._workspaces.keys() - {*GROUPS}:
            self._in_background(self._clear(unknown))
        return len(self._workspaces)

    async def start(self, launch: Launch) -> AsyncIterator[Checkpoint]:
        """As `Backend.start`. Goes on to its end even where the one who asked has gone."""
        while (present := self._workspaces.get(launch.id)) is not None:
            if present.launch.run == launch.run and not present.stopping:
                async for checkpoint in present.join(launch):
                    yield checkpoint
                return
            await self._stop(present, _REPLACED)
        workspace = Workspace(Record.new(launch), self._records, self._hierarchy, self.zygotes)
        try:
            workspace.save()
        except OSError as error:
            raise StudioloError(
                Problem(
                    "run-folder-unusable",
                    f"{launch.name} cannot be recorded, so it was not started: {error.strerror}",
                    "free some space on the disk that holds Studiolo's run folder",
                )
            ) from error
        self._workspaces[launch.id] = workspace
        log.info("%s run %s starts", launch.id, launch.run)
        yield Checkpoint("recorded", f"{launch.name} is known to the host agent")
        async for checkpoint in workspace.begin():
            yield checkpoint

    async def stop(self, id: str, grace: float) -> None:
        if (workspace := self._workspaces.get(id)) is not None:
            await self._stop(workspace, grace)

    def observe(self) -> list[Observation]:
        return [workspace.observation() for workspace in self._workspaces.values()]

    def find(self, id: str) -> Workspace | None:
        return self._workspaces.get(id)

    def running(self, id: str) -> Workspace:
        """Raises `NotFound` where it does not run."""
        workspace = self.find(id)
        if workspace is None or workspace.stopping:
            raise NotFound(
                Problem("not-running", "the workspace does not run", "start it first: `studiolo start NAME`")
            )
        return workspace

    async def tend(self) -> None:
        for workspace in self._workspaces.values():
            workspace.tend()
        await self.zygotes.tend()

    async def _stop(self, workspace: Workspace, grace: float) -> None:
        await workspace.stop(grace)
        self._gone(workspace)

    async def _end(self, workspace: Workspace) -> None:
        await workspace.resume_stop()
        self._gone(workspace)

    def _gone(self, workspace: Workspace) -> None:
        if self._workspaces.get(workspace.launch.id) is workspace:
            del self._workspaces[workspace.launch.id]
            log.info("%s run %s has ended", workspace.launch.id, workspace.launch.run)

    async def _go_on(self, workspace: Workspace) -> None:
        async for _ in workspace.begin():
            pass

    async def _clear(self, unknown: str) -> None:
        """A group whose record is lost: nobody can reach what is in it any more."""
        group = self._hierarchy.group(unknown)
        log.warning("%s has a control group but no record: it is ended", unknown)
        while not group.remove():
            group.forbid_forks()
            for pid in group.pids:
                if (identity := Identity.of(pid)) is not None:
                    procfs.send(identity, signal.SIGKILL)
            await asyncio.sleep(0.05)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s", error, exc_info=error)
