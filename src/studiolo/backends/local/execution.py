"""The agent's side of `exec`: a program in a running workspace, its streams carried over the agent's socket.

It gets the workspace's environment, folder, marks and control group, and a session of its own. When the client hangs
up it is sent SIGHUP, and killed two seconds later.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import os
import select
import signal
import struct
import termios
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from studiolo.backends.local import procfs
from studiolo.backends.local.launching import Ending, Gated, ended, spawn
from studiolo.backends.local.wire import encode, receive
from studiolo.backends.local.workspace import Workspace
from studiolo.problem import Problem, WrongInput

_CHUNK = 1 << 16
_AFTER = 0.25  # seconds that output may lag behind the program's end, where something it left holds the stream
_HANG_UP = 2.0  # seconds between SIGHUP and SIGKILL
_END_OF_INPUT = b"\x04"  # what Ctrl-D sends on a terminal


async def execute(
    workspace: Workspace,
    argv: Sequence[str],
    tty: tuple[int, int] | None,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> int:
    """Run to its end and return its exit status, or 128 + signal. Raises `WrongInput` if it cannot be started."""
    streams = _Terminal(tty) if tty is not None else _Pipes()
    launch = workspace.launch
    cwd = next((path for path in (launch.cwd, launch.home) if path and Path(path).is_dir()), "/")
    env = {**launch.env, **workspace.marks}
    try:
        child = spawn(argv, env, cwd, streams.far, terminal=tty is not None)
    finally:
        streams.close_far()
    workspace.executions.add(child.identity)
    try:
        await _released(child, workspace, argv[0])
        writer.write(encode({"item": {"pid": child.identity.pid}}))
        return await _carry(child, streams, reader, writer)
    finally:
        streams.close_near()
        workspace.executions.discard(child.identity)


async def _released(child: Gated, workspace: Workspace, program: str) -> None:
    workspace.place(child.identity.pid)
    failure = await child.release()
    if failure is not None:
        await ended(child.identity)
        raise WrongInput(
            Problem(
                "program-missing",
                f"{program} cannot be run in {workspace.launch.name}: {failure.strerror}",
                "give the full path of a program, or the name of one on the workspace's PATH",
            )
        )


async def _carry(child: Gated, streams: _Streams, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    stdin, outputs = await streams.open()
    ending = asyncio.create_task(ended(child.identity))
    listening = asyncio.create_task(_listen(reader, writer, stdin, streams))
    printing = asyncio.gather(*(_print(number, output, writer) for number, output in outputs.items()))
    try:
        await asyncio.wait({ending, listening}, return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            await _hang_up(child, streams, ending)
        await asyncio.wait({printing}, timeout=_AFTER)
        return _status(await ending)
    finally:
        for task in (listening, ending, printing):
            task.cancel()
        await asyncio.gather(listening, ending, printing, return_exceptions=True)
        stdin.close()


async def _hang_up(child: Gated, streams: _Streams, ending: asyncio.Task[Ending]) -> None:
    procfs.send_group(child.identity, signal.SIGHUP)
    procfs.send_group(child.identity, signal.SIGCONT)
    await asyncio.wait({ending}, timeout=_HANG_UP)
    while processes := procfs.session(child.identity):
        for process in processes:
            procfs.send(process.identity, signal.SIGKILL)
        await asyncio.sleep(0.005)


async def _listen(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stdin: asyncio.StreamWriter, streams: _Streams
) -> None:
    """Carry out what the client says, until it hangs up."""
    while (message := await receive(reader)) is not None:
        if "size" in message:
            columns, rows = message["size"]
            streams.resize(int(columns), int(rows))
        elif "in" in message:
            data = base64.b64decode(message["in"])
            # A program that has closed its input, or ended, misses nothing it wanted.
            with contextlib.suppress(OSError, RuntimeError):
                if data or streams.end_of_input:
                    stdin.write(data or streams.end_of_input)
                    draining = asyncio.create_task(_drained(stdin))
                    while not (await asyncio.wait({draining}, timeout=0.25))[0]:
                        if _gone(writer):
                            draining.cancel()
                            return
                else:
                    stdin.close()


async def _drained(stdin: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        await stdin.drain()


def _gone(writer: asyncio.StreamWriter) -> bool:
    """Whether the client has hung up, found out without reading on: its next words must wait."""
    poll = select.poll()
    poll.register(writer.get_extra_info("socket").fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))


async def _print(number: int, output: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):  # EIO: the terminal's last user has closed it; or the client has gone
        while data := await output.read(_CHUNK):
            writer.write(encode({"out": number, "data": base64.b64encode(data).decode()}))
            await writer.drain()


def _status(ending: Ending) -> int:
    status = ending.status if ending.status is not None else -signal.SIGKILL
    return status if status >= 0 else 128 - status


class _Streams:
    """The near ends are the agent's, the far ends the program's."""

    far: tuple[int, int, int]
    end_of_input = b""

    def __init__(self) -> None:
        self._near: list[IO[bytes]] = []
        self._transports: list[asyncio.BaseTransport] = []

    async def open(self) -> tuple[asyncio.StreamWriter, dict[int, asyncio.StreamReader]]:
        raise NotImplementedError

    def resize(self, columns: int, rows: int) -> None:
        """Nothing, where there is no terminal."""

    def close_far(self) -> None:
        for descriptor in set(self.far):
            os.close(descriptor)

    def close_near(self) -> None:
        for transport in self._transports:
            transport.close()
        for file in self._near:
            file.close()

    async def _writer(self, file: IO[bytes]) -> asyncio.StreamWriter:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), file
        )
        self._transports.append(transport)
        return asyncio.StreamWriter(transport, protocol, None, loop)

    async def _reader(self, file: IO[bytes]) -> asyncio.StreamReader:
        reader = asyncio.StreamReader(limit=_CHUNK)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
        self._transports.append(transport)
        return reader


class _Pipes(_Streams):
    def __init__(self) -> None:
        super().__init__()
        pairs = [os.pipe() for _ in range(3)]
        self.far = (pairs[0][0], pairs[1][1], pairs[2][1])
        self._near = [os.fdopen(pairs[0][1], "wb", 0), os.fdopen(pairs[1][0], "rb", 0), os.fdopen(pairs[2][0], "rb", 0)]

    async def open(self) -> tuple[asyncio.StreamWriter, dict[int, asyncio.StreamReader]]:
        stdin, stdout, stderr = self._near
        return await self._writer(stdin), {1: await self._reader(stdout), 2: await self._reader(stderr)}


class _Terminal(_Streams):
    end_of_input = _END_OF_INPUT

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        master, slave = os.openpty()
        self.far = (slave, slave, slave)
        self._near = [os.fdopen(master, "rb", 0), os.fdopen(os.dup(master), "wb", 0)]
        self.resize(*size)

    async def open(self) -> tuple[asyncio.StreamWriter, dict[int, asyncio.StreamReader]]:
        output, stdin = self._near
        return await self._writer(stdin), {1: await self._reader(output)}

    def resize(self, columns: int, rows: int) -> None:
        """Tell the terminal, and so the program in its foreground (SIGWINCH)."""
        with contextlib.suppress(OSError, ValueError, struct.error):
            fcntl.ioctl(self._near[0], termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
