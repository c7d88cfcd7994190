"""Runs one app as a backend would: seeds written, process started in a session of its own, waited for, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from studiolo.apps.app import Place, Process
from studiolo.apps.kinds import KINDS
from studiolo.spec.document import App


@dataclass
class RunningApp:
    place: Place
    process: Process
    pid: int
    log: Path
    seconds: float
    """From the start until it was ready."""

    def client(self) -> httpx2.Client:
        return httpx2.Client(
            transport=httpx2.HTTPTransport(uds=str(self.place.socket)), base_url=self.place.url, timeout=30
        )

    def session(self) -> list[tuple[int, int, str, str]]:
        """(pid, parent, state, command line) of every process of its session."""
        found = []
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == self.pid:
                    words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found.append((int(folder.name), int(fields[1]), fields[0], words))
        return found


def a_place(base: Path, kind: str, tools: Path, environment: Path, folder: Path, path: Path) -> Place:
    home = base / "home"
    home.mkdir(exist_ok=True)
    return Place(
        workspace="demo",
        home=home,
        folder=folder,
        settings=home,
        state=base / "state" / kind,
        socket=path,
        tools=tools,
        interpreter=str(environment / "bin/python"),
        prefixes=(environment,),
        url=f"http://{kind}--demo--ada.localhost",
        environment="demo (Python 3)",
    )


@contextmanager
def running_app(
    kind: str, place: Place, env: Mapping[str, str] | None = None, **document: object
) -> Iterator[RunningApp]:
    process = KINDS[kind].process(App.model_validate({"name": kind, "kind": kind, **document}), place)
    for seed in process.seeds:
        if not (seed.keep and seed.path.exists()):
            seed.path.parent.mkdir(parents=True, exist_ok=True)
            seed.path.write_text(seed.text)
    assert place.interpreter is not None
    path = [*process.path, str(Path(place.interpreter).parent), "/usr/local/bin:/usr/bin:/bin"]
    variables = {"LANG": "C.UTF-8", "HOME": str(place.home), "USER": "ada", "SHELL": "/bin/bash", **(env or {})}
    variables |= {**process.env, "PATH": ":".join(path)}
    log = place.state / "log"
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with log.open("w") as output:
        child = subprocess.Popen(
            process.argv,
            env=variables,
            cwd=place.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    app = RunningApp(place, process, child.pid, log, 0.0)
    try:
        with app.client() as client:
            while not (_listens(place.socket) and client.get(process.ready).status_code < 500):
                assert child.poll() is None, log.read_text()
                assert time.monotonic() < began + 120, log.read_text()
                time.sleep(0.02)
        app.seconds = time.monotonic() - began
        yield app
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(20)
        finally:
            for pid, *_ in app.session():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            child.wait(20)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as attempt:
        return attempt.connect_ex(str(path)) == 0


@contextmanager
def short_folder() -> Iterator[Path]:
    """Short enough for sockets, which pytest's own folders are not."""
    with tempfile.TemporaryDirectory(prefix="sa-") as folder:
        yield Path(folder)


@asynccontextmanager
async def on_a_port(place: Place) -> AsyncIterator[str]:
    """Joins a loopback port to the app's socket, for a browser; yields the app's origin there."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(1 << 16):
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_unix_connection(str(place.socket))
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, back), pump(there, writer))

    server = await asyncio.start_server(join, "127.0.0.1", 0)
    try:
        yield f"{place.url}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


BROWSER = {
    "executable_path": "/usr/bin/chromium",
    "args": ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
}
SCREENSHOTS = Path(__file__).parents[2] / "test-results" / "screenshots"
