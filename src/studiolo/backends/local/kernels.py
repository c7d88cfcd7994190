"""Kernels for a workspace's own programs (JupyterLab's server, papermill), forked on request.

They ask on a Unix socket (SOCK_SEQPACKET) beside the apps' sockets: one message `kernel` with four open files, standard
input, output and error and the request `{"argv", "env", "cwd"}` as JSON. The answer is `{"pid", "started"}` or
`{"declined": why}`, and when the kernel has ended `{"ended": status}` on the same connection. The kernel ends soon
after the program that asked has ended, and not when the connection does, so that it outlives us.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import struct
from pathlib import Path
from typing import Protocol

from studiolo.backends.backend import Launch
from studiolo.backends.local import procfs
from studiolo.backends.local.launching import ended
from studiolo.backends.local.record import KernelRecord, Record
from studiolo.backends.local.zygotes import Zygotes
from studiolo.daemon import Identity

VARIABLE = "STUDIOLO_KERNELS"
"""Names the socket in the environment of all that runs in the workspace."""

_REQUEST = 10.0  # seconds for what is said first
_LAST = 1.0
_FILES = 4
log = logging.getLogger("studiolo.agent")


class Surroundings(Protocol):
    """What kernels need of their workspace."""

    record: Record
    launch: Launch

    def save(self) -> None:
        """Keep the record. Raises `OSError`."""
        ...

    def place(self, pid: int) -> None:
        """Put a process into the control group."""
        ...

    def spent(self, cpu_seconds: float) -> None: ...


def socket_path(launch: Launch) -> Path:
    return Path(launch.apps[0].socket).with_name("kernels")


class Kernels:
    def __init__(self, around: Surroundings, zygotes: Zygotes) -> None:
        self._around = around
        self._zygotes = zygotes
        self._listening: socket.socket | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self.path = socket_path(around.launch)

    def open(self) -> None:
        """Listen. What cannot be listened on costs speed only."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.unlink(missing_ok=True)
            listening.bind(os.fspath(self.path))
            listening.listen(64)
        except OSError as error:
            log.warning("no kernels are forked for %s: %s", self._around.launch.name, error.strerror)
            listening.close()
            return
        listening.setblocking(False)
        asyncio.get_running_loop().add_reader(listening, self._accept, listening)
        self._listening = listening

    def close(self) -> None:
        """From now on nobody is heard."""
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening.close()
            self._listening = None

    async def settled(self) -> None:
        """Once the kernels have ended: until all is written down that is known of them."""
        if self._serving:
            await asyncio.wait(self._serving, timeout=_LAST)

    def tend(self) -> None:
        """End kernels whose program has ended, as their own look at their parent would; forget those that are gone."""
        kernels = self._around.record.kernels
        for kernel in kernels:
            if not kernel.asker.alive:
                procfs.send(kernel.process, signal.SIGKILL)
        gone = [kernel for kernel in kernels if not kernel.process.alive]
        for kernel in gone:
            kernels.remove(kernel)
        if gone:
            with contextlib.suppress(OSError):
                self._around.save()

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection, _ = listening.accept()
            connection.setblocking(False)
            task = asyncio.create_task(self._serve(connection))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    async def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                kernel = await self._kernel(connection)
            except (OSError, ValueError) as error:
                with contextlib.suppress(OSError):
                    connection.send(json.dumps({"declined": str(error) or type(error).__name__}).encode())
                return
            process = kernel.process
            try:
                connection.send(json.dumps({"pid": process.pid, "started": process.started}).encode())
            except OSError:  # whoever asked has given up waiting, and has started it without us
                procfs.send(process, signal.SIGKILL)
            ending = await ended(process)
            self._around.spent(ending.cpu_seconds)
            with contextlib.suppress(OSError):
                connection.send(json.dumps({"ended": ending.status}).encode())
        if kernel in self._around.record.kernels:
            self._around.record.kernels.remove(kernel)
            with contextlib.suppress(OSError):
                self._around.save()

    async def _kernel(self, connection: socket.socket) -> KernelRecord:
        """Fork and record one. Raises `OSError` or `ValueError` where there is none to be had."""
        around, zygote = self._around, self._around.launch.kernels
        asker = Identity.of(struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
        files = await _files_from(connection)
        try:
            if asker is None or zygote is None or len(files) != _FILES:
                raise ValueError("that is no request for a kernel")
            child = await self._zygotes.fork(zygote, files[:3], files[3])
        finally:
            for file in files:
                os.close(file)
        if child is None:
            raise ValueError("what it would be forked from is not ready")
        kernel = KernelRecord(child.identity, asker)
        around.place(child.identity.pid)
        around.record.kernels.append(kernel)
        try:
            around.save()
        except OSError:
            around.record.kernels.remove(kernel)
            child.abandon()
            raise
        failure = await child.release()
        if failure is not None:
            around.record.kernels.remove(kernel)
            await ended(child.identity)
            raise failure
        return kernel


async def _files_from(connection: socket.socket) -> list[int]:
    """The open files of the first message."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        async with asyncio.timeout(_REQUEST):
            await readable.wait()
    finally:
        loop.remove_reader(connection)
    _, files, _, _ = socket.recv_fds(connection, 64, _FILES)
    for file in files:
        os.set_inheritable(file, False)
    return files
