"""What the conformance tests hold on to: a backend, launches of a small real app, and ways to look at what runs."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from studiolo.backends.backend import AppLaunch, AppObservation, Backend, Launch, Observation, Zygote
from studiolo.backends.local import procfs
from studiolo.daemon import Identity
from studiolo.layout import Layout

T = TypeVar("T")
SERVER = Path(__file__).with_name("server.py")
PATIENCE = 30.0
"""Seconds after which waiting for a condition is a failure."""
ENV = {"PATH": "/usr/bin:/bin", "GREETING": "hello {world}"}


@dataclass
class Bench:
    backend: Backend
    layout: Layout
    forked: bool = False
    """Apps are forked from a zygote."""
    started: set[tuple[str, str]] = field(default_factory=set)
    """(id, run) of all launches, so that the end of a test can look for what is left."""

    def launch(self, id: str = "w1", run: str = "run-1", *apps: AppLaunch, **fields: Any) -> Launch:
        home = self.layout.workspace_home(id)
        self.started.add((id, run))
        given = {
            "name": "demo",
            "owner": "ada",
            "home": str(home),
            "logs": str(self.layout.workspace_logs(id)),
            "apps": apps or (self.app(id=id),),
            "env": ENV,
            "cwd": str(home),
        }
        return Launch(id=id, run=run, **{**given, **fields})

    def app(self, *words: str, name: str = "web", id: str = "w1", port: bool = False, **fields: Any) -> AppLaunch:
        """The small server; `words` are its options."""
        socket = str(self.layout.app_sockets(id) / f"{name}.sock")
        where = ("--port", "{port}") if port else ("--socket", socket)
        zygote = Zygote((sys.executable,), {"PATH": ENV["PATH"]}, ("json",), owner="ada") if self.forked else None
        given = {"env": ENV, "cwd": str(self.layout.workspace_home(id)), "timeout": PATIENCE, "zygote": zygote}
        return AppLaunch(name, (sys.executable, str(SERVER), *where, *words), socket=socket, **{**given, **fields})

    async def start(self, launch: Launch) -> list[str]:
        return [checkpoint.stage async for checkpoint in self.backend.start(launch)]

    async def up(self, launch: Launch) -> Observation:
        """Start and wait until all apps are ready."""
        await self.start(launch)
        return await self.ready(launch.id)

    async def observation(self, id: str = "w1") -> Observation | None:
        return next((found for found in await self.backend.observe() if found.id == id), None)

    async def seen(self, id: str = "w1") -> Observation:
        found = await self.observation(id)
        assert found is not None, f"{id} is not listed"
        return found

    async def ready(self, id: str = "w1") -> Observation:
        async def all_ready() -> Observation | None:
            found = await self.seen(id)
            assert not any(app.state == "failed" for app in found.apps), found
            return found if all(app.state == "ready" for app in found.apps) else None

        return await until(all_ready)

    async def app_when(
        self, wanted: Callable[[AppObservation], bool], id: str = "w1", name: str = "web"
    ) -> AppObservation:
        """The app's observation, once it is as wanted."""

        async def look() -> AppObservation | None:
            (app,) = [app for app in (await self.seen(id)).apps if app.name == name]
            return app if wanted(app) else None

        return await until(look)

    async def get(self, path: str = "/", id: str = "w1", name: str = "web") -> Any:
        """Ask the app; its JSON. Raises `OSError` where it does not answer."""
        socket = self.layout.app_sockets(id) / f"{name}.sock"
        reader, writer = await asyncio.open_unix_connection(socket)
        try:
            writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
        if not head:
            raise ConnectionResetError(path)
        return json.loads(body)

    def processes(self, id: str = "w1", run: str | None = None) -> list[int]:
        """Living processes that carry the marks of a workspace (and run), as anybody can see them in /proc."""
        wanted = {f"{procfs.WORKSPACE_MARK}={id}"} | ({f"{procfs.RUN_MARK}={run}"} if run else set())
        return [pid for pid in procfs.everyone() if wanted <= environment(pid)]

    def servers(self, id: str = "w1") -> list[int]:
        """Those of them that are the app itself."""
        return [pid for pid in self.processes(id) if SERVER.name in command(pid)]

    async def clear(self) -> None:
        """End everything, and find nothing left."""
        await self.backend.ensure()
        ids = {id for id, _ in self.started} | {found.id for found in await self.backend.observe()}
        for id in ids:
            await self.backend.delete(id)
        left = [(pid, command(pid)) for id in ids for pid in self.processes(id)]
        observed = await self.backend.observe()
        await self.backend.shutdown()
        for folder in (self.layout.home, self.layout.run):
            shutil.rmtree(folder, ignore_errors=True)
        assert (left, list(observed)) == ([], [])


def new_layout() -> Layout:
    """In a folder short enough for sockets."""
    return Layout(Path(tempfile.mkdtemp(prefix="stl-")))


async def until(look: Callable[[], Awaitable[T | None]], patience: float = PATIENCE) -> T:
    """What `look` returns, once it is neither None nor False."""
    async with asyncio.timeout(patience):
        while (found := await look()) is None or found is False:
            await asyncio.sleep(0.01)
        return found


def alive(pid: int) -> bool:
    return Identity.of(pid) is not None


def environment(pid: int) -> set[str]:
    try:
        return set(Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0"))
    except OSError:
        return set()


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
    except OSError:
        return ""
