"""A kernel provisioner that has IPython kernels forked by Studiolo's host agent, and starts all others as ever.

A copy of this file is imported by the jupyter_client (7 or later, Python 3.9 or later) of JupyterLab's tools and of
workspaces' environments, where nothing of ours can be imported. To everybody who has a kernel it is jupyter_client's
LocalProvisioner: a forked kernel is a process of this machine too, only with another parent.

`STUDIOLO_KERNELS` is the path of a SOCK_SEQPACKET socket. It is sent `kernel`, with standard input, output and error
and a file that holds `{"argv", "env", "cwd", "umask"}` as JSON. The agent answers `{"pid", "started"}` or
`{"declined": WHY}`, and says `{"ended": STATUS}` on the same connection when the kernel has ended. An agent that goes
takes none with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import resource
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from traitlets import List, Unicode

_ADDRESS = "STUDIOLO_KERNELS"
_MODULE = ["-m", "ipykernel_launcher"]
_LONGEST = 1 << 16
# Seconds that an answer may take. Forking takes milliseconds, but many may ask at once.
_PATIENCE = 10.0
_BINDING = 0.5  # seconds that a kernel may take to listen; a forked one takes a tenth of that
_OPEN_FILES = "Max open files"  # as /proc/<pid>/limits calls it
_INTERVAL = 0.05  # seconds between looks at a process, for who waits for its end without an event loop


class ForkingProvisioner(LocalProvisioner):
    """Forks where it can. What cannot be forked is started by jupyter_client, and the log says why."""

    withheld = List(Unicode(), config=True, help="Variables that are about this server: its kernels do not get them.")

    def _finalize_env(self, env: dict[str, str]) -> None:
        super()._finalize_env(env)
        for name in self.withheld:
            env.pop(name, None)

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        try:
            kernel = await _fork(cmd, **self._scrub_kwargs(kwargs))
        except _NotForked as error:
            self.log.info("A kernel is started, not forked: %s", error)
            return await super().launch_kernel(cmd, **kwargs)
        self.process: Any = kernel
        self.pid = self.pgid = kernel.pid
        self.cwd = kwargs.get("cwd", pathlib.Path.cwd())
        await _bound(self.connection_info)
        return self.connection_info


class _NotForked(Exception):
    """Why it is to be started in the ordinary way."""


class Forked:
    """What is used of a `subprocess.Popen`, for a process that is the agent's child."""

    stdin = stdout = stderr = None

    def __init__(self, args: Sequence[str], pid: int, started: int, agent: socket.socket) -> None:
        """`started` tells it from a later process with this pid: field 22 of its stat, in ticks since boot."""
        self.args = args
        self.pid = pid
        self.returncode: int | None = None
        self._started = started
        self._agent: socket.socket | None = agent

    def poll(self) -> int | None:
        """Its status once it has ended; 0 where nobody knows, as `subprocess` has it."""
        if self.returncode is None and self._agent is not None:
            self._listen(self._agent)
        if self.returncode is None and self._agent is None and not self._runs():
            self.returncode = 0
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises `subprocess.TimeoutExpired` after so many seconds. Blocks."""
        until = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if until is not None and time.monotonic() >= until:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            time.sleep(_INTERVAL)
        return status

    def send_signal(self, number: int) -> None:
        """Nothing where it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _listen(self, agent: socket.socket) -> None:
        try:
            message = agent.recv(_LONGEST)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        agent.close()
        self._agent = None
        if message:
            status = json.loads(message)["ended"]
            self.returncode = 0 if status is None else int(status)

    def _runs(self) -> bool:
        try:
            stat = pathlib.Path(f"/proc/{self.pid}/stat").read_bytes()
        except OSError:
            return False
        fields = stat.rpartition(b")")[2].split()
        return fields[0] not in (b"Z", b"X") and int(fields[19]) == self._started


async def _fork(
    cmd: Sequence[str],
    *,
    env: dict[str, str],
    cwd: str | os.PathLike[str] | None = None,
    independent: bool = False,
    **more: Any,
) -> Forked:
    """Raises `_NotForked`. `independent` and what follows are as jupyter_client's own `launch_kernel` has them."""
    address = os.environ.get(_ADDRESS)
    if address is None:
        raise _NotForked("this workspace's kernels are not forked")
    argv = [os.path.expanduser(word) for word in cmd]  # noqa: PTH111
    if not _is_ipython(argv):
        raise _NotForked("it is not started as `<full path of a Python> -m ipykernel_launcher`")
    if independent or any(value is not None for value in more.values()):
        words = sorted(
            name for name, value in {"independent": independent or None, **more}.items() if value is not None
        )
        raise _NotForked(f"it is wanted with {', '.join(words)}")
    agent = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        agent.setblocking(False)
        agent.connect(address)
        pid, _, _ = struct.unpack("3i", agent.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        difference = _difference(pid)
        if difference:
            raise _NotForked(f"{difference} of this program would not be the kernel's")
        request = {
            "argv": argv,
            # The agent looks after the process that asks, so that the kernel need not; 1 says that to it.
            "env": {**env, "JPY_PARENT_PID": "1"},
            "cwd": os.path.abspath(cwd or os.curdir),  # noqa: PTH100
            "umask": int(_status("thread-self")["Umask"], 8),
        }
        _send(agent, json.dumps(request).encode())
        heard = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(agent, _LONGEST), _PATIENCE)
        answer = json.loads(heard or b'{"declined": "the host agent has gone"}')
        if "declined" in answer:
            raise _NotForked(answer["declined"])
        kernel = Forked(argv, answer["pid"], answer["started"], agent)
        _let_open_as_many_files(kernel.pid)
        return kernel
    except asyncio.TimeoutError as error:  # noqa: UP041  (two different ones before Python 3.11)
        agent.close()
        raise _NotForked(f"the host agent did not answer within {_PATIENCE:g} s") from error
    except (OSError, AttributeError, ValueError, KeyError, TypeError) as error:
        agent.close()
        raise _NotForked(f"the host agent cannot be asked: {error}") from error
    except BaseException:
        agent.close()
        raise


def _difference(agent: int) -> str:
    """What a kernel would inherit from who starts it here, and gets otherwise as a child of that process; empty where
    nothing. Raises `OSError` where that cannot be known."""
    here, there = _inherited("thread-self"), _inherited(str(agent))
    return next((name for name in here if here[name] != there.get(name)), "")


def _inherited(process: str) -> dict[str, str]:
    """By name, without what can be given to a kernel that has been forked."""
    folder = pathlib.Path("/proc", process)
    status = _status(process)
    stat = (folder / "stat").read_text().rpartition(")")[2].split()
    found = {
        "the user": status["Uid"] + status["Gid"] + status["Groups"],
        "the rights": status["CapEff"] + status["CapBnd"] + status["NoNewPrivs"] + status["Seccomp"],
        "the niceness": stat[16],
        "the scheduling policy": stat[38],
        "the choice of processors": status["Cpus_allowed_list"],
        "the root folder": str((folder / "root").readlink()),
    }
    for each in (folder / "ns").iterdir():
        found[f"the namespace {each.name}"] = str(each.readlink())
    for line in (folder / "limits").read_text().splitlines()[1:]:
        name = line[:26].strip()  # columns of a fixed width; names have spaces in them
        if name != _OPEN_FILES:
            found[f'the limit "{name}"'] = line[26:]
    return found


def _status(process: str) -> dict[str, str]:
    lines = pathlib.Path("/proc", process, "status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def _let_open_as_many_files(pid: int) -> None:
    """As this process, which may have changed that: JupyterLab's server lets itself open more."""
    with contextlib.suppress(OSError, ValueError):  # not allowed, or the kernel has ended again
        resource.prlimit(pid, resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE))


async def _bound(connection: Any) -> None:
    """Wait a moment until the kernel listens. Who connects before that tries again at random times, so the first
    outputs may get lost before they are subscribed to, and JupyterLab's server tries again after half a second."""
    if connection.get("transport") != "tcp":
        return
    until = time.monotonic() + _BINDING
    while time.monotonic() < until:
        with socket.socket() as probe:
            probe.setblocking(False)
            with contextlib.suppress(OSError):
                await asyncio.get_running_loop().sock_connect(probe, (connection["ip"], connection["iopub_port"]))
                return
        await asyncio.sleep(_BINDING / 100)


def _is_ipython(argv: Sequence[str]) -> bool:
    if _MODULE[1] not in argv or not os.path.isabs(argv[0]):  # noqa: PTH117
        return False
    place = argv.index(_MODULE[1]) - 1
    return place > 0 and argv[place] == _MODULE[0] and all(word.startswith("-") for word in argv[1:place])


def _send(agent: socket.socket, content: bytes) -> None:
    """With what jupyter_client gives a kernel for standard streams: an input that has ended, this process's outputs."""
    nothing, end = os.pipe()
    os.close(end)
    try:
        with _memory() as file:
            file.write(content)
            file.flush()
            socket.send_fds(agent, [b"kernel"], [nothing, 1, 2, file.fileno()])
    finally:
        os.close(nothing)


def _memory() -> Any:
    """A file that never lies on a disk."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("kernel"), "wb")
    return tempfile.TemporaryFile(dir="/dev/shm")  # a Python that was built for old systems
