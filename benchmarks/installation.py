"""Our side: an installation in `.benchmarks/home`, on a free port, driven by its own command and its Python client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from benchmarks.waiting import free_port

HOME = Path(".benchmarks/home").absolute()
COMMAND = Path(sys.executable).with_name("studiolo")


def environment() -> dict[str, str]:
    """Byte code is kept, as it is outside development; otherwise each start would compile everything anew."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "STUDIOLO_HOME": str(HOME)}


def studiolo(*arguments: str, timeout: float = 600) -> str:
    """Run the command; what it prints. Raises `CalledProcessError` where it fails."""
    command = [str(COMMAND), *arguments]
    done = subprocess.run(
        command,
        check=True,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=timeout,
    )
    return done.stdout


@dataclass(frozen=True)
class Door:
    """How a program comes to an app: through the edge, with its token. `address` is the app's host and port."""

    address: str
    token: str

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"token {self.token}"}

    def http(self) -> httpx2.AsyncClient:
        # The name is given as a header: not every C library resolves *.localhost, every browser does.
        return httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Host": self.address, **self.authorization},
            trust_env=False,
            timeout=120,
        )

    async def seconds(self, path: str = "/lab") -> float:
        """From asking for this page to having it. Asking starts a stopped workspace, and is held until the app answers.

        Raises `RuntimeError` where anything else comes than the page.
        """
        async with self.http() as http:
            began = time.perf_counter()
            answer = await http.get(path, follow_redirects=True)
            seconds = time.perf_counter() - began
        if answer.status_code != 200:
            raise RuntimeError(f"{self.address}{path} answered {answer.status_code}: {answer.text[:500]}")
        return seconds


@dataclass(frozen=True)
class Installation:
    """Studiolo, up, with all its tools in place, so that nothing installs itself while something is measured."""

    origin: str
    port: int
    api: httpx2.AsyncClient

    async def create(self, name: str, apps: Sequence[str] = ("jupyterlab",), repository: Path | None = None) -> None:
        """A workspace, running, without a limit: of the repository's environment, or of the default one."""
        document: dict[str, Any] = {"name": name, "apps": list(apps)}
        if repository is None:
            document["environment"] = "data-science"
        else:
            document["repository"] = str(repository)
        (await self.api.post("/workspaces", json={"document": document})).raise_for_status()
        await self.phase(name, "running", 600)

    async def phase(self, name: str, wanted: str, seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            workspace = (await self.api.get(f"/workspaces/{name}")).raise_for_status().json()
            if workspace["phase"] == wanted:
                return
            if workspace["phase"] == "failed":
                raise RuntimeError(f"{name} failed: {workspace['reason']}")
            await asyncio.sleep(0.05)
        raise TimeoutError(f"{name} is not {wanted} after {seconds:.0f} s")

    async def door(self, name: str, app: str = "jupyterlab") -> Door:
        """The way of a program to this app, whether it runs or not."""
        answer = await self.api.post(f"/workspaces/{name}/tokens", json={"app": app})
        token = answer.raise_for_status().json()
        return Door(urlsplit(token["url"]).netloc, token["token"])

    async def stop(self, name: str) -> None:
        (await self.api.post(f"/workspaces/{name}/stop")).raise_for_status()
        await self.phase(name, "stopped")

    async def again(self) -> None:
        """Down and up: nothing is warm but the disk's cache, and nothing has been waited for."""
        studiolo("down", "--yes")
        _up(self.port)

    async def status(self) -> Mapping[str, Any]:
        return dict((await self.api.get("/status")).raise_for_status().json())

    async def remove_all(self) -> None:
        for workspace in (await self.api.get("/workspaces")).raise_for_status().json():
            (await self.api.delete(f"/workspaces/{workspace['id']}?purge=true")).raise_for_status()
        while (await self.api.get("/workspaces")).json():
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Installation]:
    """Up with no workspace and all tools installed; down at the end."""
    port = free_port()
    studiolo("down", "--yes")  # one that was left by a run that was killed
    try:
        _up(port)
        status = json.loads(studiolo("status", "--json"))
        token = (HOME / "token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}", "Host": f"localhost:{port}"}
        base = f"http://127.0.0.1:{port}/api/v1"
        async with httpx2.AsyncClient(base_url=base, headers=headers, trust_env=False, timeout=60) as api:
            installation = Installation(status["url"], port, api)
            await installation.remove_all()
            await _tools_settled(installation)
            yield installation
            await installation.remove_all()
    finally:
        studiolo("down", "--yes")


def _up(port: int) -> None:
    studiolo("up", "--detach", "--no-browser", "--no-link", "--port", str(port))


async def _tools_settled(installation: Installation) -> None:
    told = ""
    while True:
        tools = (await installation.status())["tools"]
        if not any(state.startswith("installing") for state in tools.values()):
            return
        words = ", ".join(f"{name}: {state}" for name, state in tools.items())
        if words != told:
            print(f"waiting for {words}", flush=True)
            told = words
        await asyncio.sleep(1)


def jupyterlab_version() -> str:
    """The version in Studiolo's own tools, so that the peer runs the same."""
    found = sorted(HOME.glob("generations/*/lib/python*/site-packages/jupyterlab-*.dist-info"))
    found = found or sorted(HOME.glob("generations/*/**/site-packages/jupyterlab-*.dist-info"))
    if not found:
        raise RuntimeError(f"no JupyterLab among the generations in {HOME}")
    return found[-1].name.removeprefix("jupyterlab-").removesuffix(".dist-info")
