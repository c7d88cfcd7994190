"""The zygotes of this host: brought up ahead of need where there is memory, asked for children, replaced, ended.

One that dies, hangs or lies costs speed only: whoever asks it for a child in vain starts the program as usual.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from studiolo.backends.backend import Ahead, Zygote
from studiolo.backends.local import procfs
from studiolo.backends.local.cgroup import Group, Hierarchy
from studiolo.backends.local.launching import Gated, adopting, ended, spawn
from studiolo.daemon import Identity

GROUPS = READY, COMING = "zygotes", "zygotes-coming"
"""Their control groups' names, which are no workspaces' ids."""

# Seconds.
_WANTED = 600.0  # that one is kept after the last time somebody wanted it
_BEGIN = 60.0  # for what every start imports
_AHEAD = 30.0  # for one module
_BIRTH = 2.0  # for a child to say its pid
_SOON = 10.0  # after which its end is nothing that would come again at once
_DEATH = 1.0  # for one that was killed; what is stuck in the kernel is left to itself
_REST = 60.0  # until one that could not begin is tried again
_EARLY = 3  # ends in a row before that
# Bytes.
_ROOM = 16384
_LINE = 2048
_SPARE = 768 << 20  # of memory that must be left to begin one
_SHORT = 256 << 20  # of memory: with less, all are ended
_GROWTH = 64 << 20  # beyond what it had when it was ready; more means that something leaks into it
_PROGRAM = Path(__file__).with_name("zygote.py")

log = logging.getLogger("studiolo.agent")


class Zygotes:
    """`folder` is for their empty homes, and removed when they are gone."""

    def __init__(self, folder: Path, hierarchy: Hierarchy) -> None:
        self._folder = folder
        self._hierarchy = hierarchy
        self._lines: dict[str, _Line] = {}

    def warm(self, zygote: Zygote) -> None:
        """Somebody may want a child of it soon."""
        self._line(zygote).wanted_until = time.monotonic() + _WANTED
        self._begin_next()

    async def fork(
        self, zygote: Zygote, streams: Sequence[int], content: int, *, patience: float = 0.0
    ) -> Gated | None:
        """A child that waits at its gate; None where there is none to be had, so that it is started as usual.

        `content` is an open file with the request, for as long as this takes. Waits up to `patience` seconds for a
        zygote that is on its way, and brings one up where there is none.
        """
        line = self._line(zygote)
        line.wanted_until = time.monotonic() + _WANTED
        if patience and not line.ready:
            await self._ready_soon(line, patience)
        running = line.running
        if running is None or not running.ready:
            return None
        if not Path(zygote.python[0]).exists():  # its generation was deleted under it
            await line.end("its Python is gone")
            return None
        try:
            return await running.fork(streams, content)
        except (OSError, ValueError) as error:
            log.warning("zygote %s gives no child: %r", line.name, error)
            if line.running is running:  # and not one that has followed it meanwhile
                await line.end("it gave no child")
            return None

    def ahead(self, zygote: Zygote) -> Ahead:
        """What is imported ahead there."""
        line = self._lines.get(zygote.key)
        return Ahead(line.ready, line.modules, dict(line.left_out)) if line is not None else Ahead(False, (), {})

    def trouble(self, zygote: Zygote) -> str:
        """Why nothing can be forked from it, ever; empty where something can."""
        line = self._lines.get(zygote.key)
        return line.trouble if line is not None else ""

    async def tend(self) -> None:
        """Once a second: end what is stuck, has grown, is no longer wanted or takes memory that is needed; begin what
        is wanted."""
        now = time.monotonic()
        short = procfs.available() < _SHORT
        for key, line in list(self._lines.items()):
            if line.running is not None:
                await line.tend(now, short)
            elif now > line.wanted_until:
                del self._lines[key]
                shutil.rmtree(self._folder / key, ignore_errors=True)
        self._begin_next()

    async def close(self) -> None:
        """End all. Their children go on."""
        for line in list(self._lines.values()):
            line.wanted_until = 0.0
            await line.end("the host agent ends")
        for name in GROUPS:
            self._hierarchy.group(name).remove()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _line(self, zygote: Zygote) -> _Line:
        key = zygote.key
        if key not in self._lines:
            groups = [self._hierarchy.group(name) for name in GROUPS]
            self._lines[key] = _Line(zygote, self._folder / key, *groups)
        return self._lines[key]

    def _begin_next(self) -> None:
        """One at a time, so that they do not slow each other."""
        now = time.monotonic()
        if any(line.running is not None and not line.ready for line in self._lines.values()):
            return
        for line in sorted(self._lines.values(), key=lambda line: -line.wanted_until):
            if line.running is None and line.wanted_until > now >= line.rests_until and procfs.available() > _SPARE:
                line.begin(urgent=False)
                return

    async def _ready_soon(self, line: _Line, patience: float) -> None:
        """Somebody waits: what is on its way gets the machine's attention."""
        if line.running is None:
            if time.monotonic() < line.rests_until or procfs.available() <= _SPARE:
                return
            line.begin(urgent=True)
        line.hurry()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await line.settled.wait()


class _Line:
    """One zygote, and those that follow it."""

    def __init__(self, zygote: Zygote, home: Path, ready: Group, coming: Group) -> None:
        self.zygote = zygote
        self.name = Path(zygote.python[0]).parents[1].name
        self.wanted_until = 0.0
        self.rests_until = 0.0
        self.left_out: dict[str, str] = {}
        self.trouble = ""
        self._early = 0
        self.running: _Running | None = None
        self.settled = asyncio.Event()
        """It is ready, or will not be."""
        self._home = home
        self._groups = ready, coming

    @property
    def ready(self) -> bool:
        return self.running is not None and self.running.ready

    @property
    def modules(self) -> tuple[str, ...]:
        return tuple(name for name in self.zygote.ahead if name not in self.left_out)

    def begin(self, *, urgent: bool) -> None:
        self.settled.clear()
        try:
            self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
            # The last one is room: children write their own variables over the zygote's, for whoever reads /proc. There
            # is room behind its command line as well.
            env = {**self.zygote.env, "HOME": str(self._home), "STUDIOLO_ROOM": "." * _ROOM}
            self.running = _Running(self.zygote, self.modules, env, self._heard)
        except OSError as error:
            self._rest(f"it cannot be started: {error.strerror}")
            self.settled.set()
            return
        ready, coming = self._groups
        with contextlib.suppress(OSError):
            for group in self._groups:
                group.create(None, None)
            coming.leave_precedence()
            (ready if urgent else coming).add(self.running.process.pid)
        self.running.release()

    def hurry(self) -> None:
        """From now on it need not wait for others."""
        if self.running is not None:
            with contextlib.suppress(OSError):
                self._groups[0].add(self.running.process.pid)

    async def tend(self, now: float, short: bool) -> None:
        running = self.running
        assert running is not None
        if not running.ready and running.busy_for(now) > (_AHEAD if running.importing else _BEGIN):
            if running.importing:
                self.left_out[running.importing] = f"importing it takes longer than {_AHEAD:g} s"
            else:
                self._rest("it does not become ready")
            await self.end("it hangs")
        elif running.ready and running.silent_for > _SOON and self._early:
            self._early = 0
        elif running.ready and running.grown > _GROWTH:
            await self.end("it has grown")
        elif short or now > self.wanted_until:
            self._rest("")
            await self.end("memory is short" if short else "it is no longer wanted")

    async def end(self, why: str) -> None:
        if self.running is not None:
            log.info("zygote %s ends: %s", self.name, why)
            running, self.running = self.running, None
            self.settled.set()
            await running.end()

    def _heard(self, message: Mapping[str, str | bool] | None) -> None:
        """What the running one says; None: it has ended."""
        running = self.running
        if running is None:
            return
        if message is None:
            self.running = None
            if running.importing and not running.ready:
                self.left_out.setdefault(running.importing, "importing it ends the program")
            elif not running.ready:
                self._rest(running.failure or "it has ended before it was ready")
            elif running.silent_for < _SOON:
                self._early += 1
                if self._early > _EARLY:
                    self._rest("it ends again and again as soon as it is ready")
            running.kill()
            self.settled.set()
        elif "spoiled" in message:
            if message["spoiled"]:
                self.left_out[str(message["spoiled"])] = str(message["why"])
            else:  # it would be the same again
                self.trouble = str(message["why"])
                self._rest(self.trouble)
                self.rests_until = float("inf")
        elif "ready" in message:
            log.info("zygote %s is ready: %s", self.name, ", ".join(self.modules) or "nothing ahead")
            self.hurry()
            self.settled.set()

    def _rest(self, why: str) -> None:
        if why:
            log.warning("zygote %s: %s", self.name, why)
        self.rests_until = time.monotonic() + _REST


class _Running:
    """The process."""

    def __init__(
        self,
        zygote: Zygote,
        ahead: Sequence[str],
        env: Mapping[str, str],
        heard: Callable[[Mapping[str, str | bool] | None], None],
    ) -> None:
        """Raises `OSError`."""
        self._heard = heard
        self.ready = False
        self.importing = ""
        self.failure = ""
        self._since = time.monotonic()
        self._delay = 0.0
        self._memory = 0
        self._turn = asyncio.Lock()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.setblocking(False)
        theirs.set_inheritable(True)
        asked = json.dumps({"options": zygote.python[1:], "begin": zygote.begin, "ahead": ahead}).ljust(_LINE)
        argv = [*zygote.python, str(_PROGRAM), str(theirs.fileno()), asked]
        nothing = os.open(os.devnull, os.O_RDWR)
        try:
            self._gated = spawn(argv, env, "/", (nothing, nothing, nothing))
        except OSError:
            self._channel.close()
            raise
        finally:
            os.close(nothing)
            theirs.close()
        self.process = self._gated.identity
        self._tasks: set[asyncio.Task[None]] = set()
        asyncio.get_running_loop().add_reader(self._channel, self._hear)

    def release(self) -> None:
        async def go() -> None:
            if (failure := await self._gated.release()) is not None:
                self.failure = f"it cannot be started: {failure.strerror}"
            await ended(self.process)

        task = asyncio.create_task(go())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def busy_for(self, now: float) -> float:
        """Seconds since it last said something, without those in which others had the processors."""
        return now - self._since - (procfs.waited(self.process.pid) - self._delay)

    @property
    def silent_for(self) -> float:
        """Seconds since it last said something."""
        return time.monotonic() - self._since

    @property
    def grown(self) -> int:
        """Bytes."""
        return max(0, procfs.anonymous(self.process.pid) - self._memory)

    async def fork(self, streams: Sequence[int], content: int) -> Gated:
        """A child at its gate. Raises `OSError`, `TimeoutError` among them, where it gives none."""
        async with self._turn:  # each has its time from when it is its turn
            return await self._fork(streams, content)

    async def _fork(self, streams: Sequence[int], content: int) -> Gated:
        gate_end, gate = os.pipe()
        try:
            verdict, verdict_end = os.pipe()
        except OSError:
            os.close(gate_end)
            os.close(gate)
            raise
        try:
            socket.send_fds(self._channel, [b"fork"], [*streams, gate_end, verdict_end, content])
        except OSError:
            os.close(gate)
            os.close(verdict)
            raise
        finally:
            os.close(gate_end)
            os.close(verdict_end)
        try:
            with adopting():
                said = await self._said(verdict)
            if not said.startswith(b"p"):
                number = int(said[1:] or b"0")
                raise OSError(number, os.strerror(number) if number else "it has ended")
            identity = Identity.of(int(said[1:]))
            if identity is None:
                raise ProcessLookupError(int(said[1:]))
        except BaseException:
            os.close(gate)
            os.close(verdict)
            raise
        return Gated(identity, gate, verdict)

    async def _said(self, verdict: int) -> bytes:
        """What a child says first. It has more time where the zygote has to wait for a processor."""
        line = asyncio.create_task(_line_from(verdict))
        begun, delay = time.monotonic(), procfs.waited(self.process.pid)
        try:
            while not (await asyncio.wait({line}, timeout=_BIRTH))[0]:
                if time.monotonic() - begun - (procfs.waited(self.process.pid) - delay) >= _BIRTH:
                    raise TimeoutError("it does not answer")
            return line.result()
        finally:
            line.cancel()
            await asyncio.gather(line, return_exceptions=True)  # before the file is closed, on which it listens

    async def end(self) -> None:
        """Kill it, and see it end if it does so at once."""
        self.kill()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_DEATH)

    def kill(self) -> None:
        """It is not heard any more; what its imports have started ends with it."""
        if self._channel.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._channel)
            self._channel.close()
        for process in procfs.session(self.process):
            procfs.send(process.identity, signal.SIGKILL)
        procfs.send(self.process, signal.SIGKILL)

    def _hear(self) -> None:
        try:
            text = self._channel.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            text = b""
        message = json.loads(text) if text else None
        if message is not None:
            self._since, self._delay = time.monotonic(), procfs.waited(self.process.pid)
            self.importing = str(message.get("importing", "")) or self.importing
            if message.get("ready"):
                self.ready, self._memory = True, procfs.anonymous(self.process.pid)
        self._heard(message)


async def _line_from(file: int) -> bytes:
    """The first line that is written there; empty where it is closed before."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(file, readable.set)
    said = b""
    try:
        while not said.endswith(b"\n"):
            await readable.wait()
            readable.clear()
            piece = os.read(file, 1)  # what follows the line is not for us
            if not piece:
                break
            said += piece
    finally:
        loop.remove_reader(file)
    return said.strip()
