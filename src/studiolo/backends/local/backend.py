"""The local backend: workspaces as processes of this host, owned by a detached agent.

This side is thin: it brings the agent up and speaks with it. It keeps no state, so any number of them may be used at
once. With the agent gone every method but `ensure`, `shutdown` and `logs` raises `Unavailable`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from studiolo import daemon
from studiolo.backends.backend import Checkpoint, Features, Launch, LogLine, Observation, Output, Usage, Zygote
from studiolo.backends.local import logs as log_files
from studiolo.backends.local.wire import LINE_LIMIT, VERSION, encode, error_from, observation_from, plain, receive
from studiolo.layout import Layout
from studiolo.problem import Problem, StudioloError, Unavailable

_HELLO = 3.0  # seconds after which an agent that accepts but does not answer is replaced
_COMING_UP = 10.0  # seconds


class LocalBackend:
    """`Backend` on this host. `cgroups=False`: limit nothing, even where the machine would let us."""

    name = "local"

    def __init__(self, layout: Layout, *, cgroups: bool = True) -> None:
        self._layout = layout
        self._cgroups = cgroups

    def agent_pid(self) -> int | None:
        """The running agent's pid."""
        identity = daemon.read_pid_file(self._pid_file)
        return identity.pid if identity is not None else None

    async def ensure(self) -> None:
        deadline = asyncio.get_running_loop().time() + _COMING_UP
        while not await self._greeted():
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable(
                    Problem(
                        "agent-down",
                        "the host agent does not come up",
                        f"its log says why: {self._log}",
                    )
                )
            await self._bring_up()

    async def shutdown(self) -> None:
        identity = daemon.read_pid_file(self._pid_file)
        if identity is not None:
            await daemon.terminate(identity, 5.0)

    async def features(self) -> Features:
        return Features(**await self._ask({"op": "features"}))

    async def warm(self, zygotes: Sequence[Zygote]) -> None:
        if zygotes:
            await self._ask({"op": "warm", "zygotes": [plain(zygote) for zygote in zygotes]})

    async def start(self, launch: Launch) -> AsyncIterator[Checkpoint]:
        async with _Call(self._layout, {"op": "start", "launch": plain(launch)}) as call:
            async for item in call.items():
                yield Checkpoint(**item)

    async def stop(self, id: str, grace: float) -> None:
        await self._ask({"op": "stop", "id": id, "grace": grace})

    async def delete(self, id: str) -> None:
        await self._ask({"op": "stop", "id": id, "grace": 0.0})
        folder = self._layout.app_sockets(id)
        with contextlib.suppress(OSError):
            for socket in folder.iterdir():
                socket.unlink(missing_ok=True)
            folder.rmdir()

    async def observe(self) -> Sequence[Observation]:
        return [observation_from(data) for data in await self._ask({"op": "observe"})]

    async def usage(self, id: str) -> Usage | None:
        data = await self._ask({"op": "usage", "id": id})
        return Usage(**data) if data is not None else None

    async def exec(self, id: str, argv: Sequence[str], *, tty: tuple[int, int] | None = None) -> Execution:
        call = _Call(self._layout, {"op": "exec", "id": id, "argv": list(argv), "tty": tty})
        await call.open()
        try:
            await call.next()  # the item that says it has been started, or why not
        except BaseException:
            await call.close()
            raise
        return Execution(call)

    async def logs(
        self, id: str, *, app: str | None = None, follow: bool = False, tail: int = 200
    ) -> AsyncIterator[LogLine]:
        """Read from the files, so that the log of what has stopped, or of a host without an agent, is there too."""
        folder = self._layout.workspace_logs(id)
        names = [app] if app is not None else sorted(path.name.removesuffix(".log") for path in folder.glob("*.log"))
        followers = {name: log_files.Follower(folder / f"{name}.log") for name in names} if follow else {}
        for name in names:
            for text in await asyncio.to_thread(log_files.tail, folder / f"{name}.log", tail):
                yield LogLine(name, text)
        while follow:
            if app is None:
                for path in folder.glob("*.log"):
                    followers.setdefault(path.name.removesuffix(".log"), log_files.Follower(path, from_start=True))
            for name, follower in followers.items():
                for text in follower.new_lines():
                    yield LogLine(name, text)
            await asyncio.sleep(log_files.POLL)

    @property
    def _pid_file(self) -> Path:
        return self._layout.run / "agent.pid"

    @property
    def _log(self) -> Path:
        return self._layout.logs / "host-agent.log"

    async def _ask(self, request: Mapping[str, Any]) -> Any:
        async with _Call(self._layout, request) as call:
            async for _ in call.items():
                pass
            return call.result

    async def _greeted(self) -> bool:
        """Whether an agent of our version answers. One that does not is ended; what it owns runs on."""
        try:
            async with asyncio.timeout(_HELLO):
                hello = await self._ask({"op": "hello"})
            if hello["version"] == VERSION:
                return True
        except Unavailable:
            return False
        except (StudioloError, TimeoutError):
            pass
        if (identity := daemon.read_pid_file(self._pid_file)) is not None:
            await daemon.terminate(identity, 0.5)
        return False

    async def _bring_up(self) -> None:
        """Start an agent; it is up, or another is, when this returns."""
        self._layout.prepare()
        options = [] if self._cgroups else ["--without-cgroups"]
        argv = daemon.python_module("studiolo.backends.local.agent", str(self._layout.home), *options)
        env = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
        child = daemon.spawn(argv, log=self._log, env=env)
        waiting = asyncio.create_task(asyncio.to_thread(child.wait))
        status = await asyncio.shield(waiting)
        if status != 0:
            raise Unavailable(
                Problem(
                    "agent-down",
                    f"the host agent cannot start: {log_files.last_lines(self._log, count=1)}",
                    f"its log says more: {self._log}",
                )
            )


class _Call:
    """One request and its answer, on a connection of its own."""

    def __init__(self, layout: Layout, request: Mapping[str, Any]) -> None:
        self._socket = layout.agent_socket
        self._request = request
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.finished = False
        self.result: Any = None

    async def __aenter__(self) -> _Call:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        try:
            self._reader, self._writer = await asyncio.open_unix_connection(self._socket, limit=LINE_LIMIT)
        except OSError as error:
            raise _down() from error
        await self.send(self._request)

    async def send(self, message: Mapping[str, Any]) -> None:
        assert self._writer is not None
        self._writer.write(encode(message))
        try:
            await self._writer.drain()
        except OSError as error:
            raise _down() from error

    async def next(self) -> dict[str, Any] | None:
        """The next message; None once the request is done. Raises what the agent raised."""
        assert self._reader is not None
        if self.finished:
            return None
        message = await receive(self._reader)
        if message is None:
            raise _down()
        if "error" in message:
            self.finished = True
            raise error_from(message["error"])
        if "done" in message:
            self.finished, self.result = True, message["done"]
            return None
        return message

    async def items(self) -> AsyncIterator[Any]:
        while (message := await self.next()) is not None:
            yield message["item"]

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()


class Execution:
    """`backend.Execution` over the agent's socket."""

    def __init__(self, call: _Call) -> None:
        self._call = call
        self.status: int | None = None

    async def __aiter__(self) -> AsyncIterator[Output]:
        while (message := await self._call.next()) is not None:
            yield Output(1 if message["out"] == 1 else 2, base64.b64decode(message["data"]))
        self.status = self._call.result
        await self._call.close()

    async def write(self, data: bytes) -> None:
        if not self._call.finished:
            await self._say({"in": base64.b64encode(data).decode()})

    async def resize(self, columns: int, rows: int) -> None:
        if not self._call.finished:
            await self._say({"size": [columns, rows]})

    async def close(self) -> None:
        await self._call.close()

    async def _say(self, message: Mapping[str, Any]) -> None:
        # The program may end at any moment; its status, which is read next, tells more than an error here.
        with contextlib.suppress(Unavailable):
            await self._call.send(message)


def _down() -> Unavailable:
    return Unavailable(Problem("agent-down", "the host agent does not answer", "run `studiolo up`"))
