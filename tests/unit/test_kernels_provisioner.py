"""The kernel provisioner, with jupyter_client's own manager and an agent that does what it is told to here."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from traitlets.config import Config

from studiolo.kernels import files, studiolo_kernels
from studiolo.kernels.studiolo_kernels import Forked, ForkingProvisioner

# In the place of ipykernel: it writes down what it finds, and waits.
KERNEL = """
import json, os, sys, time
found = {"argv": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd(), "input": sys.stdin.read()}
found["pid"] = os.getpid()
with open(os.environ["FOUND"] + ".new", "w") as file: json.dump(found, file)
os.rename(os.environ["FOUND"] + ".new", os.environ["FOUND"])
time.sleep(600)
"""


class Agent:
    """Starts what it is asked to fork, in its own way; or answers with `says`; or nothing at all."""

    def __init__(self, path: Path) -> None:
        self.requests: list[dict[str, Any]] = []
        self.says: dict[str, Any] | None = None
        self.silent = False
        self.knows_how_it_ended = True
        self.children: list[subprocess.Popen[bytes]] = []
        self.connections: list[socket.socket] = []
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._door.bind(str(path))
        self._door.listen()
        self.watching: list[threading.Thread] = []
        self._serving = threading.Thread(target=self._serve)
        self._serving.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._door.accept()
                self.connections.append(connection)
                if not self.silent:
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        word, files, _, _ = socket.recv_fds(connection, 16, 4)
        if not word:  # it only wanted to know who listens
            return
        assert word == b"kernel"
        stdin, stdout, stderr, content = files
        with os.fdopen(content, "rb") as file:
            file.seek(0)
            request = json.load(file)
        self.requests.append(request)
        answer = self.says
        child: Any = None
        if answer is None:
            child = subprocess.Popen(
                request["argv"],
                env=request["env"],
                cwd=request["cwd"],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
            self.children.append(child)
            fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
            answer = {"pid": child.pid, "started": int(fields[19])}
        for descriptor in (stdin, stdout, stderr):
            os.close(descriptor)
        connection.send(json.dumps(answer).encode())
        if child is not None:
            self.watching.append(threading.Thread(target=self._watch, args=(child, connection)))
            self.watching[-1].start()

    def _watch(self, child: subprocess.Popen[bytes], connection: socket.socket) -> None:
        status = child.wait()
        with contextlib.suppress(OSError):
            connection.send(json.dumps({"ended": status if self.knows_how_it_ended else None}).encode())

    def go(self) -> None:
        with contextlib.suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._serving.join()
        self._door.close()
        for connection in self.connections:
            connection.close()
        self.connections = []


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    with tempfile.TemporaryDirectory(prefix="sk-") as folder:
        agent = Agent(Path(folder, "door"))
        monkeypatch.setenv("STUDIOLO_KERNELS", str(Path(folder, "door")))
        yield agent
        for child in agent.children:
            child.kill()
        for thread in agent.watching:
            thread.join()
        agent.go()


@asynccontextmanager
async def a_kernel(folder: Path, *options: str, command: str = sys.executable, **words: Any) -> AsyncIterator[Any]:
    """A manager whose kernel has been started, and the kernel's folder."""
    (folder / "modules").mkdir()
    (folder / "modules/ipykernel_launcher.py").write_text(KERNEL)
    argv = [command, *options, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    manager = AsyncKernelManager(config=Config({"ForkingProvisioner": {"withheld": ["ABOUT_THE_SERVER"]}}))
    manager._kernel_spec = KernelSpec(argv=argv, language="python")
    manager.connection_file = str(folder / "connection.json")
    manager.provisioner = ForkingProvisioner(kernel_id="k", kernel_spec=manager._kernel_spec, parent=manager)
    env = {
        **os.environ,
        "PYTHONPATH": str(folder / "modules"),
        "FOUND": str(folder / "found"),
        "ABOUT_THE_SERVER": "1",
        "ODD": b"\xff".decode("utf-8", "surrogateescape"),
    }
    await manager.start_kernel(env=env, cwd=str(folder), **words)
    try:
        yield manager
    finally:
        if await manager.is_alive():
            os.kill(pid(manager), signal.SIGKILL)
        manager._close_control_socket()
        manager.context.destroy(0)
        if manager.provisioner.has_process:
            manager.provisioner.process.wait(30)


def pid(manager: Any) -> int:
    assert manager.provisioner.pid is not None
    return int(manager.provisioner.pid)


async def found(folder: Path) -> Any:
    """What the kernel has found about itself."""
    async with asyncio.timeout(30):
        while not (folder / "found").exists():
            await asyncio.sleep(0.01)
    return json.loads((folder / "found").read_text())


async def ended(manager: Any) -> bool:
    async with asyncio.timeout(30):
        while await manager.is_alive():
            await asyncio.sleep(0.01)
    return True


async def test_a_forked_kernel_finds_what_it_would_have_found(agent: Agent, tmp_path: Path) -> None:
    async with a_kernel(tmp_path, "-Xfrozen_modules=off") as manager:
        it = await found(tmp_path)
        assert isinstance(manager.provisioner.process, Forked)
        assert (it["pid"], it["pid"]) == (pid(manager), manager.provisioner.pgid)
        assert it["argv"] == ["-f", str(tmp_path / "connection.json")]
        assert it["cwd"] == str(tmp_path)
        assert it["input"] == ""
        assert it["env"]["ODD"] == "\udcff"
        assert it["env"]["JPY_PARENT_PID"] == "1", "it does not look after the process that wanted it"
        assert "ABOUT_THE_SERVER" not in it["env"]
        assert await manager.provisioner.get_provisioner_info() == {
            "kernel_id": "k",
            "connection_info": manager.provisioner.connection_info,
            "pid": pid(manager),
            "pgid": pid(manager),
            "ip": None,
        }


async def test_it_is_interrupted_killed_and_waited_for(agent: Agent, tmp_path: Path) -> None:
    async with a_kernel(tmp_path) as manager:
        await found(tmp_path)
        kernel = manager.provisioner.process
        with pytest.raises(subprocess.TimeoutExpired):
            kernel.wait(0.01)
        await manager.interrupt_kernel()
        assert await ended(manager)
        assert kernel.wait() == -signal.SIGINT
        await manager.restart_kernel(now=True)
        kernel = manager.provisioner.process
        await manager.provisioner.kill()
        assert await manager.provisioner.wait() == -signal.SIGKILL
        assert not manager.has_kernel
        kernel.send_signal(signal.SIGKILL)  # to nobody


async def test_an_end_that_nobody_saw_is_an_end(agent: Agent, tmp_path: Path) -> None:
    agent.knows_how_it_ended = False
    async with a_kernel(tmp_path) as manager:
        agent.children[-1].kill()
        assert await ended(manager)
        assert manager.provisioner.process.returncode == 0


async def test_an_agent_that_goes_takes_no_kernel_with_it(agent: Agent, tmp_path: Path) -> None:
    async with a_kernel(tmp_path) as manager:
        await found(tmp_path)
        agent.go()
        assert await manager.is_alive()
        os.kill(pid(manager), signal.SIGKILL)
        assert await ended(manager)
        await manager.restart_kernel(now=True)
        await found(tmp_path)
        assert isinstance(manager.provisioner.process, subprocess.Popen)


async def test_what_is_declined_is_started(agent: Agent, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    agent.says = {"declined": "for the sake of it"}
    async with a_kernel(tmp_path) as manager:
        it = await found(tmp_path)
        assert isinstance(manager.provisioner.process, subprocess.Popen)
        assert it["env"]["JPY_PARENT_PID"] == str(os.getpid())
        assert "ABOUT_THE_SERVER" not in it["env"]


@pytest.mark.parametrize("address", [None, "/nowhere/door", "/dev/null", "/" + 200 * "x"])
async def test_without_an_agent_it_is_started(
    address: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STUDIOLO_KERNELS", raising=False)
    if address is not None:
        monkeypatch.setenv("STUDIOLO_KERNELS", address)
    async with a_kernel(tmp_path) as manager:
        assert (await found(tmp_path))["pid"] == pid(manager)
        assert isinstance(manager.provisioner.process, subprocess.Popen)


@pytest.mark.parametrize("says", [{}, {"pid": "x"}, [], {"declined": "first"}])
async def test_an_agent_that_talks_nonsense_does_no_harm(agent: Agent, says: Any, tmp_path: Path) -> None:
    agent.says = says
    async with a_kernel(tmp_path) as manager:
        assert (await found(tmp_path))["pid"] == pid(manager)
        assert len(agent.requests) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), {"independent": True}),
        ((), {"stdout": subprocess.DEVNULL}),
        ((), {"umask": 0o77}),
        (("-W", "ignore"), {}),
    ],
)
async def test_what_is_unusual_is_not_asked_for(
    agent: Agent, tmp_path: Path, options: tuple[str, ...], words: dict[str, Any]
) -> None:
    async with a_kernel(tmp_path, *options, **words) as manager:
        await found(tmp_path)
        assert isinstance(manager.provisioner.process, subprocess.Popen)
        assert agent.requests == []


async def test_an_agent_that_hangs_is_given_up_and_nothing_else_waits(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studiolo_kernels, "_PATIENCE", 0.3)
    agent.silent = True
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.01)

    counting = asyncio.create_task(count())
    async with a_kernel(tmp_path) as manager:
        counting.cancel()
        assert turns > 5
        assert isinstance(manager.provisioner.process, subprocess.Popen)
        agent.connections[0].recv(16)
        assert agent.connections[0].recv(16) == b"", "it would hear that nobody wants its kernel any more"


async def test_a_program_that_cannot_be_run_fails_as_ever(agent: Agent, tmp_path: Path) -> None:
    agent.says = {"declined": "no such file"}
    with pytest.raises(FileNotFoundError):
        async with a_kernel(tmp_path, command="/nowhere/python"):
            pass


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda: None, ""),
        (lambda: os.nice(1), "the niceness"),
        (lambda: os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0)), "the scheduling policy"),
        (lambda: os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]), "the choice of processors"),
        (lambda: resource.setrlimit(resource.RLIMIT_CPU, (1000, 1001)), 'the limit "Max cpu time"'),
        (lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40)), 'the limit "Max address space"'),
        (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300)), ""),  # that is given to a forked kernel
    ],
)
def test_what_a_kernel_would_not_inherit_is_found(change: Callable[[], object], name: str) -> None:
    if "processors" in name and len(os.sched_getaffinity(0)) == 1:
        pytest.skip("this machine has one processor")
    with subprocess.Popen(["sleep", "60"], preexec_fn=change) as agent:
        try:
            assert studiolo_kernels._difference(agent.pid) == name
        finally:
            agent.kill()


async def test_a_forked_kernel_may_open_as_many_files_and_has_the_same_umask(agent: Agent, tmp_path: Path) -> None:
    limits, umask = resource.getrlimit(resource.RLIMIT_NOFILE), os.umask(0o027)
    try:
        async with a_kernel(tmp_path) as manager:
            assert isinstance(manager.provisioner.process, Forked)
            assert agent.requests[0]["umask"] == 0o027
            resource.prlimit(pid(manager), resource.RLIMIT_NOFILE, (64, limits[1]))
            studiolo_kernels._let_open_as_many_files(pid(manager))
            assert resource.prlimit(pid(manager), resource.RLIMIT_NOFILE) == limits
    finally:
        os.umask(umask)


async def test_where_something_would_not_be_inherited_a_kernel_is_started(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studiolo_kernels, "_difference", lambda _: "the niceness")
    async with a_kernel(tmp_path) as manager:
        assert isinstance(manager.provisioner.process, subprocess.Popen)
        assert agent.requests == []


def test_the_oldest_python_that_can_import_it() -> None:
    ast.parse(files()["studiolo_kernels.py"], feature_version=(3, 9))
