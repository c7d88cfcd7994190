"""One run of a workspace on this host: its apps, its control group, its end.

The record is the truth and outlives the agent; an object of this class is the agent's grip on it. What belongs to the
run is found by its marks, its sessions and its group, so that ending it leaves nobody behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from studiolo.backends.backend import Checkpoint, Launch, Observation, Usage, Zygote
from studiolo.backends.local import home, logs, procfs
from studiolo.backends.local.app import App
from studiolo.backends.local.cgroup import Group, Hierarchy
from studiolo.backends.local.kernels import VARIABLE, Kernels, socket_path
from studiolo.backends.local.launching import Gated
from studiolo.backends.local.record import AppRecord, Record, Records
from studiolo.backends.local.zygotes import Zygotes
from studiolo.daemon import Identity
from studiolo.problem import Problem, Unavailable
from studiolo.spec.quantity import format_size

_STRAYS = 1.0  # seconds that what the apps left behind gets between SIGTERM and SIGKILL
_ASTRAY = "some of its processes are not limited"
_STUCK = 30.0  # seconds after SIGKILL until a process is called stuck (in the kernel, on a dead network disk)
_PATIENCE = 20.0  # seconds for a zygote that is being brought up: what it imports would have to be imported anyway
_JUST_NOW = 2.0  # seconds for which a kill for want of memory explains the end of an app


class Workspace:
    def __init__(self, record: Record, records: Records, hierarchy: Hierarchy, zygotes: Zygotes) -> None:
        self.record = record
        self.launch = record.launch
        self.marks: Mapping[str, str] = {
            **procfs.marks(self.launch.id, self.launch.run),
            **({VARIABLE: str(socket_path(self.launch))} if self.launch.kernels is not None else {}),
        }
        self.home = self.launch.home
        self.log_folder = Path(self.launch.logs)
        self.executions: set[Identity] = set()
        """Session leaders of programs run by `exec`."""
        self._records = records
        self._hierarchy = hierarchy
        self._zygotes = zygotes
        self._kernels = Kernels(self, zygotes) if self.launch.kernels is not None else None
        self._apps = [App(app, record.apps[app.name], self) for app in self.launch.apps]
        self._supervisors: list[asyncio.Task[None]] = []
        self._ending: asyncio.Task[None] | None = None
        self._oom_seen = float("-inf")
        self._cpu_seen = 0.0

    @property
    def group(self) -> Group:
        return Group(self.record.group_version, {n: Path(path) for n, path in self.record.group_folders.items()})

    @property
    def _astray(self) -> bool:
        """Whether a process of it may be outside its group."""
        return any(note.startswith(_ASTRAY) for note in self.record.notes)

    @property
    def stopping(self) -> bool:
        return self.record.stop_by is not None

    async def begin(self) -> AsyncIterator[Checkpoint]:
        """Prepare what has not been prepared, then start all apps or go on watching those that run."""
        if not self.record.prepared:
            self._make_group()
            for note in home.prepare(self.launch):
                self.note(note)
            self.record.prepared = True
            self.record.launch = self.launch = replace(self.launch, seeds=())
            self.save()
            yield Checkpoint("prepared", "home, files and limits are in place")
        if not self._supervisors and not self.stopping:
            if self._kernels is not None:
                self._kernels.open()
            self._supervisors = [asyncio.create_task(app.supervise()) for app in self._apps]
        for app in self._apps:
            await app.attempted.wait()
            yield Checkpoint("app", f"{app.launch.name} is {app.record.state}")

    async def join(self, launch: Launch) -> AsyncIterator[Checkpoint]:
        """Start the apps of the same run that are not there yet; what runs is left alone. Idempotent."""
        present = {app.name for app in self.launch.apps}
        joining = [app for app in launch.apps if app.name not in present]
        if joining:
            for note in home.prepare(launch):
                self.note(note)
            before = self.record.launch, self.record.apps
            self.record.launch = replace(self.launch, apps=(*self.launch.apps, *joining), seeds=())
            self.record.apps = {**self.record.apps, **{app.name: AppRecord() for app in joining}}
            try:
                self.save()
            except OSError:  # they have not joined, so that asking again tries again
                self.record.launch, self.record.apps = before
                raise
            self.launch = self.record.launch
            apps = [App(app, self.record.apps[app.name], self) for app in joining]
            self._apps += apps
            self._supervisors += [asyncio.create_task(app.supervise()) for app in apps]
        for app in self._apps:
            await app.attempted.wait()
            yield Checkpoint("app", f"{app.launch.name} is {app.record.state}")

    def _make_group(self) -> None:
        group = self._hierarchy.group(self.launch.id)
        self.record.group_version = group.version
        self.record.group_folders = {name: str(folder) for name, folder in group.folders.items()}
        self.save()  # before it is made, so that it is removed whatever happens
        failure = ""
        try:
            group.create(self.launch.cpu, self.launch.memory)
        except OSError as error:
            failure = f"its control group could not be made: {error.strerror}"
        why = failure or self._hierarchy.explanation
        if self.launch.cpu is not None and (failure or not self._hierarchy.limits_cpu):
            self.note(f"cpu is not limited: {why}")
        if self.launch.memory is not None and (failure or not self._hierarchy.limits_memory):
            self.note(f"memory is not limited: {why}")

    # What an app asks of its surroundings

    def save(self) -> None:
        self._records.save(self.record)

    def place(self, pid: int) -> None:
        try:
            self.group.add(pid)
        except OSError as error:
            self.note(f"{_ASTRAY}: {error.strerror}")

    def note(self, text: str) -> None:
        self.record.note(text)

    def spent(self, cpu_seconds: float) -> None:
        self.record.cpu_seconds += cpu_seconds

    async def fork(
        self, zygote: Zygote, argv: Sequence[str], env: Mapping[str, str], cwd: str, streams: tuple[int, int, int]
    ) -> Gated | None:
        content = os.memfd_create("request", os.MFD_CLOEXEC)
        try:
            os.write(content, json.dumps({"argv": argv, "env": env, "cwd": cwd}).encode())
            return await self._zygotes.fork(zygote, streams, content, patience=_PATIENCE)
        finally:
            os.close(content)

    def out_of_memory(self) -> str:
        kills = self.group.oom_kills
        if kills > self.record.oom_kills:
            self.record.oom_kills = kills
            self._oom_seen = time.monotonic()
        if time.monotonic() - self._oom_seen > _JUST_NOW:
            return ""
        return f"it needed more than its {format_size(self.launch.memory or 0)} of memory"

    # What the agent asks

    def tend(self) -> None:
        """Once a second: rotate logs, look for kills by the kernel, keep what it may be forked from."""
        for app in self._apps:
            logs.rotate(app.log)
        self.out_of_memory()
        if self.stopping:
            return
        zygotes = [app.launch.zygote for app in self._apps]
        if any(app.record.state == "ready" for app in self._apps):
            zygotes.append(self.launch.kernels)
        for zygote in zygotes:
            if zygote is not None:
                self._zygotes.warm(zygote)
        if self._kernels is not None:
            self._kernels.tend()

    def observation(self) -> Observation:
        notes = list(self.record.notes)
        if kills := self.record.oom_kills:
            memory = format_size(self.launch.memory or 0)
            notes.append(f"processes killed because it needed more than its {memory} of memory: {kills}")
        notes += [
            f"{app.name} is started, not forked: {why}"
            for app in self.launch.apps
            if app.zygote is not None and (why := self._zygotes.trouble(app.zygote))
        ]
        return Observation(
            id=self.launch.id,
            run=self.launch.run,
            apps=tuple(app.observation() for app in self._apps),
            stopping=self.stopping,
            notes=tuple(notes),
            ahead=self._zygotes.ahead(self.launch.kernels) if self.launch.kernels is not None else None,
        )

    def usage(self) -> Usage:
        """From the control group; without one, summed over its processes (resident memory then counts shared pages
        once for each, and CPU time of orphans that have ended is lost)."""
        group = self.group
        cpu, memory = group.cpu_seconds, group.memory
        pids = group.pids
        if cpu is None or memory is None or not pids:
            processes = self.members().values()
            cpu = self.record.cpu_seconds + sum(process.cpu_seconds for process in processes) if cpu is None else cpu
            memory = sum(process.memory for process in processes) if memory is None else memory
            pids = {process.identity.pid for process in processes}
        self._cpu_seen = max(self._cpu_seen, cpu)
        return Usage(self._cpu_seen, memory, len(pids))

    def members(self) -> Mapping[int, procfs.Process]:
        """Its living processes. A control group that all were put into knows them for certain, in a moment; without,
        everybody's have to be looked at."""
        if self.record.group_version and not self._astray:
            return {pid: process for pid in self.group.pids if (process := procfs.Process.of(pid)) is not None}
        kernels = (kernel.process for kernel in self.record.kernels)
        leaders = [*self.record.leaders, *self.executions, *kernels]
        return procfs.members(self.launch.id, self.launch.run, leaders, self.group.pids)

    async def stop(self, grace: float) -> None:
        """End all its processes and forget it. Asked again, the earlier deadline holds. Raises `Unavailable` where a
        process cannot be ended; asking again tries again."""
        deadline = time.monotonic() + grace
        if self.record.stop_by is None or deadline < self.record.stop_by:
            self.record.stop_by = deadline
            with contextlib.suppress(OSError):  # a full disk must not keep anything alive
                self.save()
        await self.resume_stop()

    async def resume_stop(self) -> None:
        if self._ending is None or self._ending.done():
            self._ending = asyncio.create_task(self._end())
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        for supervisor in self._supervisors:
            supervisor.cancel()
        await asyncio.gather(*self._supervisors, return_exceptions=True)
        if self._kernels is not None:
            self._kernels.close()
        for app in self._apps:
            app.attempted.set()
        leaders = [*self.record.leaders, *self.executions]
        for leader in leaders:
            procfs.send_group(leader, signal.SIGTERM)
            procfs.send_group(leader, signal.SIGCONT)  # a stopped process hears nothing
        asked_all = False
        pause = 0.005
        while members := self.members():
            assert self.record.stop_by is not None
            late = time.monotonic() - self.record.stop_by
            if late > _STUCK:
                pids = ", ".join(str(pid) for pid in sorted(members))
                raise Unavailable(
                    Problem(
                        "processes-stuck",
                        f"{self.launch.name} does not stop: the kernel does not end its processes {pids}",
                        "they wait for a disk or a device; once that answers they end by themselves",
                    )
                )
            if late >= 0:
                self.group.forbid_forks()
                for process in members.values():
                    procfs.send(process.identity, signal.SIGKILL)
            elif not asked_all and not any(leader.alive for leader in leaders):
                asked_all = True
                for process in members.values():
                    procfs.send(process.identity, signal.SIGTERM)
                self.record.stop_by = min(self.record.stop_by, time.monotonic() + _STRAYS)
            _reap(leaders)
            await asyncio.sleep(pause)
            pause = min(0.1, pause * 1.5)
        _reap(leaders)
        if self._kernels is not None:
            await self._kernels.settled()
        await self._forget()

    async def _forget(self) -> None:
        for _ in range(100):  # the kernel lets go of a group a moment after its last process
            if self.group.remove():
                break
            await asyncio.sleep(0.02)
        for app in self.launch.apps:
            socket = Path(app.socket)
            with contextlib.suppress(OSError):
                socket.unlink(missing_ok=True)
                if self._kernels is not None:
                    self._kernels.path.unlink(missing_ok=True)
                socket.parent.rmdir()
        self._records.forget(self.launch.id)


def _reap(children: Sequence[Identity]) -> None:
    for child in children:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child.pid, os.WNOHANG)
