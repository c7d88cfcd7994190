"""A plain start: what a workspace's app runs, started from a terminal, so to say.

It is the same program with the same arguments, variables and folder as Studiolo's host agent has recorded of a run that
is under way, but for the socket; nothing is around it, neither edge nor agent nor limits, and nothing is forked. Its
workspace must be stopped meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from benchmarks.installation import HOME
from benchmarks.waiting import first_ok
from studiolo.backends.local.record import Records
from studiolo.layout import Layout


@dataclass(frozen=True)
class Program:
    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    socket: str

    @classmethod
    def of(cls, workspace: str, app: str) -> Program:
        """What runs as this app of this running workspace."""
        for record in Records(Layout(HOME).run / "agent").load():
            if record.launch.name == workspace:
                launch = next(each for each in record.launch.apps if each.name == app)
                return cls(launch.argv, dict(launch.env), launch.cwd, launch.socket)
        raise LookupError(f"{workspace} does not run")

    async def seconds(self, path: str, has: str) -> float:
        """From starting it to its first 200 for this page, with these words in it, on its own socket."""
        with self._started() as (socket, began):
            transport = httpx2.AsyncHTTPTransport(uds=str(socket))
            async with httpx2.AsyncClient(transport=transport, timeout=60, follow_redirects=True) as http:
                return await first_ok(http, f"http://localhost{path}", began, has)

    @contextmanager
    def _started(self) -> Iterator[tuple[Path, float]]:
        folder = Path(tempfile.mkdtemp(prefix="sb-", dir="/tmp"))  # a socket's path must be short
        socket = folder / "app.sock"
        argv = [word.replace(self.socket.removesuffix(".sock"), str(socket.with_suffix(""))) for word in self.argv]
        with (folder / "log").open("w") as log:
            began = time.perf_counter()
            process = subprocess.Popen(
                argv,
                env=self.env,
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield socket, began
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)
            shutil.rmtree(folder, ignore_errors=True)
