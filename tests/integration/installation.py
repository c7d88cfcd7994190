"""A whole installation for tests: its own data folder and port, the real command, the real everything.

Built environments are shared between test runs below `.test-home`: they are addressed by their lock, so sharing them is
what the product does as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

import built
from studiolo.client import Client
from studiolo.daemon import read_pid_file
from studiolo.layout import Layout
from studiolo.resources import Token, Workspace, WorkspaceCreate

ROOT = Path(__file__).parents[2]
COMMAND = Path(sys.executable).parent / "studiolo"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(look: Callable[[], object], seconds: float = 60, what: str = "it") -> Any:
    """Look again and again until there is something to see, and return that."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.05)


@dataclass
class Installation:
    home: Path
    port: int = field(default_factory=free_port)

    @property
    def layout(self) -> Layout:
        return Layout(self.home)

    @property
    def origin(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return {**kept, "STUDIOLO_HOME": str(self.home)}

    def run(
        self, *words: str, check: bool = True, timeout: float = 300, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """The `studiolo` command, as a person without a terminal runs it."""
        done = subprocess.run(
            [str(COMMAND), *words],
            env=self.environment,
            text=True,
            capture_output=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL if "input" not in options else None,
            **options,
        )
        assert not check or done.returncode == 0, (
            f"studiolo {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--json").stdout)

    def up(self) -> str:
        """Bring it up in the background; returns the sign-in link."""
        for app in ("jupyterlab", "vscode"):
            built.tools(app)
        self.home.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            (self.home / "generations").symlink_to(built.SHARED / "generations")
        with contextlib.suppress(FileExistsError):
            (self.home / "cache").symlink_to(built.SHARED / "cache")
        done = self.run("up", "--detach", "--port", str(self.port), "--no-browser")
        return next(word for word in done.stdout.split() if "/sign-in/" in word)

    def down(self) -> None:
        self.run("down", "--yes")

    def client(self) -> Client:
        return Client.local(self.layout)

    def pid(self, part: str) -> int:
        """Of `control`, `agent`, `edge` or `relay`."""
        identity = read_pid_file(self.layout.run / f"{part}.pid")
        assert identity is not None, f"{part} does not run"
        return identity.pid

    def runs(self, part: str) -> bool:
        return read_pid_file(self.layout.run / f"{part}.pid") is not None

    def kill(self, part: str) -> None:
        pid = self.pid(part)
        os.kill(pid, signal.SIGKILL)

        def ended() -> bool:
            # one look: between two, another may have taken its place, or none be there any more
            identity = read_pid_file(self.layout.run / f"{part}.pid")
            return identity is None or identity.pid != pid

        until(ended, 10, f"the end of {part}")

    def make(self, document: Mapping[str, Any], **wish: Any) -> Workspace:
        with self.client() as client:
            return client.create(WorkspaceCreate(document=dict(document), **wish))

    def workspace(self, name: str) -> Workspace:
        with self.client() as client:
            return client.workspace(name)

    def phase(self, name: str, *wanted: str, seconds: float = 120) -> Workspace:
        """Wait until it is in one of these phases."""

        def look() -> Workspace | None:
            workspace = self.workspace(name)
            assert workspace.phase != "failed" or "failed" in wanted, f"{name} failed: {workspace.reason}"
            return workspace if workspace.phase in wanted else None

        found: Workspace = until(look, seconds, f"{name} {' or '.join(wanted)}")
        return found

    def token(self, name: str, app: str | None = None) -> Token:
        with self.client() as client:
            return client.token(name, app)

    def get(self, token: Token, path: str = "/", **options: Any) -> httpx2.Response:
        """Ask an app through the edge."""
        return self.request("GET", token, path, **options)

    def request(
        self, method: str, token: Token | None, path: str, *, host: str = "", **options: Any
    ) -> httpx2.Response:
        headers = {"Host": host or (token.url.split("/")[2] if token else f"localhost:{self.port}")}
        if token is not None:
            headers["Authorization"] = f"token {token.token}"
        headers |= options.pop("headers", {})
        return httpx2.request(
            method, f"http://127.0.0.1:{self.port}{path}", headers=headers, timeout=30, trust_env=False, **options
        )


def left_behind(home: Path) -> list[str]:
    """Processes that still run for this data folder."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if f"{home}".encode() in (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


# A small HTTP program for tests that are not about JupyterLab: it answers with its process id.
ECHO = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(str(os.getpid()).encode())
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def echo(name: str = "echo", **more: Any) -> dict[str, Any]:
    """An app of kind `command` that runs `ECHO` with the Python that runs the tests."""
    return {"name": name, "kind": "command", "command": [sys.executable, "-I", "-c", ECHO, "{port}"], **more}
