"""TCP ports of this machine: whether one can be had, and who has it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from studiolo.problem import Problem, StudioloError

_LISTENING = "0A"


def loopback_addresses() -> tuple[str, ...]:
    """127.0.0.1, and [::1] where the machine has it: browsers may take `localhost` to mean either."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return ("127.0.0.1",)
    return ("127.0.0.1", "[::1]")


def check_free(address: str, port: int) -> None:
    """Raises `StudioloError` (`port-taken`, `port-forbidden`, `address-missing`) if nothing can listen there."""
    family = socket.AF_INET6 if address.startswith("[") else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((address.strip("[]"), port))
            probe.listen(1)
        except OSError as error:
            raise StudioloError(_problem(address, port, error)) from error


def is_ours(address: str, port: int, ours: Callable[[int], bool]) -> bool:
    """Whether the address and port are listened on by processes for which `ours` is true."""
    owners = listeners(port, ipv6=address.startswith("["))
    return bool(owners) and all(ours(pid) for pid in owners)


def listeners(port: int, *, ipv6: bool | None = None) -> list[int]:
    """The processes that listen on the port, as far as /proc lets us see (other people's stay hidden)."""
    tables = [name for name, wanted in (("tcp", ipv6 is not True), ("tcp6", ipv6 is not False)) if wanted]
    sockets = {inode for name in tables for inode in _inodes(Path("/proc/net") / name, port)}
    return [pid for pid in processes() if sockets and _holds(pid, sockets)]


def processes() -> Iterator[int]:
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdigit():
                yield int(entry.name)


async def ask(address: str, port: int, host: str, path: str, *, timeout: float) -> str | None:
    """The first line of a 200 answer's body; None for everything else, within `timeout` seconds."""
    target = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(address, address.strip("[]"))
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(target, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                answer = await reader.read(4096)
            finally:
                writer.close()
    except OSError:  # TimeoutError is one too
        return None
    head, _, body = answer.decode("latin-1").partition("\r\n\r\n")
    return body.partition("\n")[0] if head.startswith("HTTP/1.1 200 ") else None


def _problem(address: str, port: int, error: OSError) -> Problem:
    if error.errno == errno.EADDRINUSE:
        names = [f"{name} (pid {pid})" for pid in listeners(port) if (name := _name(pid))]
        who = " and ".join(names) or "another program"
        return Problem("port-taken", f"port {port} is taken by {who}", f"studiolo up --port {_next_free(port)}")
    if error.errno == errno.EACCES:
        return Problem(
            "port-forbidden", f"port {port} may only be used by root here", f"studiolo up --port {_next_free(8800)}"
        )
    return Problem("address-missing", f"nothing can listen on {address} port {port}: {error.strerror}")


def _next_free(port: int) -> int:
    for candidate in range(port + 1, min(port + 100, 65536)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", candidate))
            return candidate
    return 8800


def _inodes(table: Path, port: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for line in table.read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def _holds(pid: int, sockets: set[str]) -> bool:
    links = {f"socket:[{inode}]" for inode in sockets}
    with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if str(Path(entry.path).readlink()) in links:
                    return True
    return False


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
