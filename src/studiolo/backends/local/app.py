"""One app of a running workspace: started, watched until it is ready, restarted with back-off when it ends.

    starting ──ready──► ready ──ends──► restarting ──ready──► ready
       │                                    │
       └── no such program, not ready in time, or five endings in a row without having become ready ──► failed

Everything that must survive the agent is in the `AppRecord`; `supervise` goes on from whatever that says, so adopting
an app and starting one are the same code.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from studiolo.backends.backend import AppLaunch, AppObservation, Zygote
from studiolo.backends.local import logs, procfs
from studiolo.backends.local.launching import Ending, Gated, ended, spawn
from studiolo.backends.local.probe import until_ready
from studiolo.backends.local.record import AppRecord
from studiolo.daemon import Identity, python_module

HEALTHY = 60.0
"""Seconds of being ready after which earlier endings are forgotten."""
ATTEMPTS = 5
"""Endings in a row without having become ready after which it is given up."""
_LATE = 1.0  # seconds an adopted app gets even if its time ran out while no agent was there


def backoff(failures: int) -> float:
    """Seconds to wait after the n-th ending in a row: 0.5, 1, 2 ... 30."""
    return min(30.0, 0.5 * 2.0 ** min(failures - 1, 10))


class Surroundings(Protocol):
    """What an app needs of its workspace."""

    marks: Mapping[str, str]
    home: str
    log_folder: Path

    def save(self) -> None:
        """Keep the record. Raises `OSError`."""
        ...

    def place(self, pid: int) -> None:
        """Put a process into the control group."""
        ...

    def note(self, text: str) -> None: ...

    def out_of_memory(self) -> str:
        """If the kernel killed something of it for want of memory just now: how that is said, else empty."""
        ...

    def spent(self, cpu_seconds: float) -> None:
        """A process has ended that used this much."""
        ...

    async def fork(
        self, zygote: Zygote, argv: Sequence[str], env: Mapping[str, str], cwd: str, streams: tuple[int, int, int]
    ) -> Gated | None:
        """A child of a zygote that waits at its gate; None where there is none to be had."""
        ...


class App:
    def __init__(self, launch: AppLaunch, record: AppRecord, around: Surroundings) -> None:
        self.launch = launch
        self.record = record
        self.attempted = asyncio.Event()
        """Set once its first attempt has been made, whatever became of it."""
        self._around = around
        self.log = around.log_folder / f"{launch.name}.log"

    def observation(self) -> AppObservation:
        process = self.record.process
        return AppObservation(
            name=self.launch.name,
            state=self.record.state,
            pid=process.pid if process is not None else None,
            restarts=self.record.restarts,
            reason=self.record.reason,
        )

    async def supervise(self) -> None:
        """Keep it running until cancelled or given up. Cancelling ends the watching, not the app."""
        try:
            while self.record.state != "failed":
                if self.record.process is None and not await self._start():
                    continue
                self.attempted.set()
                await self._recover(await self._watch())
        finally:
            self.attempted.set()

    async def _start(self) -> bool:
        """Whether it runs; otherwise it has been given up or may be tried again at once."""
        record = self.record
        port = _free_port() if self._wants_port else None
        with contextlib.suppress(OSError):
            Path(self.launch.socket).unlink(missing_ok=True)
        record.port, record.log_start = port, logs.size(self.log)
        env = {name: _filled(value, port) for name, value in self.launch.env.items()}
        try:
            record.process, failure = await self._run(
                [_filled(word, port) for word in self.launch.argv], env, self._folder(), "process"
            )
        except OSError as error:
            await self._recover(Ending(None), f"could not be started: {error.strerror}")
            return False
        if failure is not None:
            what = f"{self.launch.argv[0]}: {failure.strerror}"
            self._give_up(f"cannot be started: {what}")
            return False
        return True

    async def _run(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: str, role: str
    ) -> tuple[Identity | None, OSError | None]:
        """Start a process of this app, recorded as its `role` before it may run anything. Raises `OSError` where it
        could not even be recorded."""
        Path(self.launch.socket).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        nothing = os.open(os.devnull, os.O_RDONLY)
        output = self._output()
        env = {**env, **self._around.marks}
        child = None
        try:
            if role == "process" and self.launch.zygote is not None:
                self.attempted.set()  # nobody else waits for a zygote that is being brought up
                child = await self._around.fork(self.launch.zygote, argv, env, cwd, (nothing, output, output))
            if child is None:
                child = spawn(argv, env, cwd, (nothing, output, output))
        finally:
            os.close(nothing)
            os.close(output)
        try:
            self._around.place(child.identity.pid)
            setattr(self.record, role, child.identity)
            if role == "process":
                self.record.since = time.monotonic()
            self._around.save()
        except OSError:
            setattr(self.record, role, None)
            child.abandon()
            raise
        failure = await child.release()
        if failure is not None:
            await ended(child.identity)
            return None, failure
        return child.identity, None

    def _output(self) -> int:
        try:
            return logs.open_log(self.log)
        except OSError as error:
            self._around.note(f"{self.launch.name} has no log: {self.log}: {error.strerror}")
            return os.open(os.devnull, os.O_WRONLY)

    def _folder(self) -> str:
        for folder in (self.launch.cwd, self._around.home):
            if os.access(folder, os.X_OK) and Path(folder).is_dir():
                return folder
            self._around.note(f"{self.launch.name} was not started in {folder}: it is not a folder that can be entered")
        return "/"

    async def _watch(self) -> Ending | None:
        """Until it ends; None where it was not ready in time."""
        assert self.record.process is not None
        ending = asyncio.create_task(ended(self.record.process))
        others: list[asyncio.Task[None]] = []
        if self.record.port is not None:
            others.append(asyncio.create_task(self._keep_bridge()))
        try:
            if self.record.state != "ready":
                ready = asyncio.create_task(until_ready(Path(self.launch.socket), self.launch.ready))
                others.append(ready)
                left = self.record.since + self.launch.timeout - time.monotonic()
                done, _ = await asyncio.wait(
                    {ending, ready}, timeout=max(_LATE, left), return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    await self._clear()  # before the question to it is given up, about which it would only complain
                    return None
                if ending not in done:
                    self._became_ready()
            return await ending
        finally:
            await _cancelled(ending, *others)

    def _became_ready(self) -> None:
        self.record.state, self.record.reason, self.record.unready = "ready", "", 0
        self.record.since = time.monotonic()
        with contextlib.suppress(OSError):  # the next agent would find out anew
            self._around.save()

    async def _keep_bridge(self) -> None:
        """Join the socket to the port, for as long as the app runs."""
        argv = python_module("studiolo.backends.local.bridge", self.launch.socket, str(self.record.port))
        while True:
            if self.record.bridge is None:
                with contextlib.suppress(OSError):
                    self.record.bridge, _ = await self._run(argv, {"PATH": os.defpath}, "/", "bridge")
            if self.record.bridge is not None:
                await ended(self.record.bridge)
                self.record.bridge = None
            await asyncio.sleep(0.5)

    async def _recover(self, ending: Ending | None, words: str = "") -> None:
        """After an end: clear up what it left, say why, wait; or give it up."""
        record = self.record
        self.attempted.set()
        if ending is None:
            await self._clear()
            self._give_up(f"did not answer at {self.launch.ready} within {self.launch.timeout:g} s")
            return
        shortage = self._around.out_of_memory()
        reason = words or ending.words
        if shortage and (ending.killed or ending.status is None):
            reason = f"was killed: {shortage}"
        elif shortage:
            reason = f"{reason}, after a process of this workspace was killed: {shortage}"
        self._around.spent(ending.cpu_seconds)
        await self._clear()
        if record.state == "ready" and time.monotonic() - record.since >= HEALTHY:
            record.failures = 0
        record.failures += 1
        if record.state != "ready":
            record.unready += 1
        if record.unready >= ATTEMPTS:
            self._give_up(f"{reason}, {ATTEMPTS} times in a row without having become ready")
            return
        record.state, record.reason = "restarting", self._with_log(reason)
        with contextlib.suppress(OSError):
            self._around.save()
        await asyncio.sleep(backoff(record.failures))
        record.restarts += 1

    async def _clear(self) -> None:
        """End what is left of an attempt: its session and what descends from it, and its bridge."""
        for leader in list(self.record.leaders):
            while processes := procfs.session(leader):
                for process in processes:
                    procfs.send(process.identity, signal.SIGKILL)
                await asyncio.sleep(0.005)
            await ended(leader)
        self.record.process = self.record.bridge = None
        with contextlib.suppress(OSError):
            Path(self.launch.socket).unlink(missing_ok=True)

    def _give_up(self, reason: str) -> None:
        self.record.state, self.record.reason, self.record.process = "failed", self._with_log(reason), None
        with contextlib.suppress(OSError):
            self._around.save()

    def _with_log(self, reason: str) -> str:
        lines = logs.last_lines(self.log, self.record.log_start)
        return f"{reason}. Its last log lines:\n{lines}" if lines else reason

    @property
    def _wants_port(self) -> bool:
        return any("{port}" in text for text in (*self.launch.argv, *self.launch.env.values()))


def _filled(text: str, port: int | None) -> str:
    return text if port is None else text.replace("{port}", str(port))


def _free_port() -> int:
    """A loopback port nobody listens on now. Should another take it first, the app ends and gets another."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _cancelled(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
