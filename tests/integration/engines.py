"""A Docker, a Podman and a registry of the tests' own: on Unix sockets, on loopback and on a bridge made for them."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx2
import pytest

BUSYBOX = Path("/usr/bin/busybox")
_PROGRAMS = ("sh", "cat", "echo", "false", "grep", "ls", "mkdir", "sleep", "test", "touch", "true", "yes")
_START = 60.0
_numbers = itertools.count(1)


def reason_against(*programs: str) -> str:
    """Why engines cannot run here; empty if they can."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing or not BUSYBOX.exists():
        return f"{', '.join(missing) or 'busybox-static'} is not installed"
    return "" if os.geteuid() == 0 else "only root can run a container engine of its own"


def root_filesystem(more: Mapping[str, bytes] | None = None) -> bytes:
    """A small root file system: BusyBox, and what package managers would have written down."""
    files = {
        "bin/busybox": BUSYBOX.read_bytes(),
        "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
        "etc/os-release": b'ID=debian\nVERSION_ID="12"\n',
        "var/lib/dpkg/status": b"Package: bash\nStatus: install ok installed\nVersion: 5.2.15-2\n\n"
        b"Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n",
        "usr/local/lib/python3.12/site-packages/six-1.17.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: six\n"
        b"Version: 1.17.0\nLicense: MIT\n",
        "usr/local/lib/python3.12/site-packages/six.py": b"pass\n",
        **(more or {}),
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            archive.addfile(info, io.BytesIO(content))
        for name in _PROGRAMS:
            info = tarfile.TarInfo(f"bin/{name}")
            info.type, info.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(info)
    return buffer.getvalue()


class Client:
    """What a test does to an engine behind Studiolo's back."""

    def __init__(self, path: Path) -> None:
        self.socket = path
        transport = httpx2.HTTPTransport(uds=str(path), verify=False)
        self.http = httpx2.Client(transport=transport, base_url="http://engine", timeout=60.0)

    def load(self, name: str, content: bytes) -> None:
        repository, _, tag = name.rpartition(":")
        parameters = {"fromSrc": "-", "repo": repository, "tag": tag}
        answer = self.http.post("/images/create", params=parameters, content=content)
        assert answer.status_code == 200, answer.text
        # Docker has named it already, Podman has not
        image = answer.json()["status"]
        assert self.http.post(f"/images/{image}/tag", params={"repo": repository, "tag": tag}).status_code == 201

    def push(self, name: str) -> None:
        repository, _, tag = name.rpartition(":")
        answer = self.http.post(f"/images/{repository}/push", params={"tag": tag}, headers={"X-Registry-Auth": "e30="})
        assert "digest: sha256:" in answer.text, answer.text

    def remove(self, name: str) -> None:
        self.http.delete(f"/images/{name}", params={"force": "1"})

    def names(self) -> set[str]:
        return {tag for image in self.http.get("/images/json").json() for tag in image["RepoTags"] or ()}

    def containers(self) -> list[object]:
        return list(self.http.get("/containers/json", params={"all": "1"}).json())


@contextlib.contextmanager
def docker(folder: Path) -> Iterator[Client]:
    """A Docker Engine. `folder` must have a short path."""
    bridge = f"stt{os.getpid() % 100000}x{next(_numbers)}"
    subnet = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}.1/24"
    subprocess.run(["ip", "link", "add", bridge, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "address", "add", subnet, "dev", bridge], check=True)
        argv = [
            *("dockerd", "--data-root", folder / "data", "--exec-root", folder / "exec", "--pidfile", folder / "pid"),
            *("--host", f"unix://{folder / 's'}", "--bridge", bridge, "--iptables=false", "--ip6tables=false"),
            *("--ip-forward=false", "--ip-masq=false", "--max-download-attempts=1", "--log-level=error"),
            *("--config-file", folder / "none.json"),
        ]
        (folder / "none.json").write_text("{}")
        with _running([str(word) for word in argv], folder), _answering(folder / "s", folder / "log") as client:
            yield client
    finally:
        subprocess.run(["ip", "link", "delete", bridge], check=True)


@contextlib.contextmanager
def podman(folder: Path, registry: str) -> Iterator[Client]:
    """A Podman service, with a runtime that any host has."""
    files = {
        "containers.conf": '[containers]\nnetns="host"\ndefault_ulimits=["nofile=1024:1024","nproc=1024:1024"]\n'
        '[engine]\nruntime="runc"\ncgroup_manager="cgroupfs"\nevents_logger="none"\n',
        "registries.conf": f'[[registry]]\nlocation="{registry}"\ninsecure=true\n',
        "storage.conf": f'[storage]\ndriver="overlay"\ngraphroot="{folder}/graph"\nrunroot="{folder}/run"\n',
    }
    for name, content in files.items():
        (folder / name).write_text(content)
    env = {
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
    }
    try:
        argv = ["podman", "system", "service", "--time=0", f"unix://{folder / 's'}"]
        with _running(argv, folder, env), _answering(folder / "s", folder / "log") as client:
            yield client
    finally:
        for mount in (folder / "graph" / "overlay", folder / "graph"):
            subprocess.run(["umount", "-l", mount], check=False, capture_output=True)


@contextlib.contextmanager
def registry(folder: Path) -> Iterator[str]:
    """An empty registry; yields its address."""
    port = free_port()
    (folder / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder / 'images'}}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    with _running(["docker-registry", "serve", str(folder / "config.yml")], folder):
        _wait(lambda: _connects(socket.AF_INET, ("127.0.0.1", port)), "the registry", folder / "log")
        yield f"127.0.0.1:{port}"


class Cutting:
    """A way to a registry that breaks, for good, after so many bytes of answers."""

    def __init__(self, to: str, after: int) -> None:
        host, _, port = to.partition(":")
        self._to = (host, int(port))
        self._left = after
        self.broken = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._to)
            threading.Thread(target=self._copy, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._copy, args=(far, near, True), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(16384):
                if counted:
                    self._left -= len(data)
                if self._left <= 0:
                    self.close()
                    self.broken.set()
                    break
                sink.sendall(data)
        for each in (source, sink):
            # closing alone does not wake the thread that copies the other way
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def _running(argv: list[str], folder: Path, env: Mapping[str, str] | None = None) -> Iterator[None]:
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(argv, stdout=log, stderr=log, env={**os.environ, **(env or {})})
    try:
        yield
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextlib.contextmanager
def _answering(path: Path, log: Path) -> Iterator[Client]:
    _wait(lambda: _connects(socket.AF_UNIX, str(path)), "the engine", log)
    client = Client(path)
    try:
        _wait(lambda: client.http.get("/_ping").status_code == 200, "the engine", log)
        yield client
    finally:
        client.http.close()


def _connects(family: int, address: object) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as near:
        return near.connect_ex(address) == 0  # type: ignore[arg-type]


def _wait(condition: Callable[[], bool], what: str, log: Path) -> None:
    until = time.monotonic() + _START
    while not condition():
        if time.monotonic() > until:
            pytest.fail(f"{what} did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.05)
