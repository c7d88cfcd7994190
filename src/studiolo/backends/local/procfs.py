"""Finding a workspace's processes in /proc, whatever became of their parents.

A process belongs to a run if it carries the run's marks in its environment (children inherit them), if it is in a
session that one of the run's processes leads, or if it descends from one that belongs. A control group, where there
is one, knows all of them for certain; without one, a program that both leaves its session and throws away its
environment *and* whose parent has ended is the one thing not found.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from studiolo.daemon import Identity

WORKSPACE_MARK = "STUDIOLO_WORKSPACE"
RUN_MARK = "STUDIOLO_RUN"

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")


def marks(workspace: str, run: str) -> dict[str, str]:
    """The variables that every process of a run carries."""
    return {WORKSPACE_MARK: workspace, RUN_MARK: run}


def boot_id() -> str:
    """Changes with every boot: pids, start times and monotonic times of another boot mean nothing."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True)
class Process:
    """One line of the process table."""

    identity: Identity
    parent: int
    session: int
    cpu_seconds: float
    """Its own and that of the children it has waited for."""
    memory: int
    """Resident bytes, shared pages counted in full."""

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """None where there is no such process, or only a zombie."""
        try:
            text = (_PROC / str(pid) / "stat").read_text()
        except OSError:
            return None
        fields = text.rpartition(")")[2].split()
        if fields[0] in "ZX":
            return None
        return cls(
            identity=Identity(pid, int(fields[19])),
            parent=int(fields[1]),
            session=int(fields[3]),
            cpu_seconds=sum(int(ticks) for ticks in fields[11:15]) / _TICKS,
            memory=int(fields[21]) * _PAGE,
        )


def everyone() -> dict[int, Process]:
    """All processes but this one, by pid. Zombies are left out."""
    table: dict[int, Process] = {}
    for name in os.listdir(_PROC):  # noqa: PTH208  ten times the speed of iterdir, and called in loops
        if name.isdigit() and int(name) != os.getpid() and (process := Process.of(int(name))) is not None:
            table[process.identity.pid] = process
    return table


def _environment(pid: int) -> list[bytes]:
    try:
        return (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:  # another user's, or gone
        return []


def members(
    workspace: str, run: str, leaders: Iterable[Identity] = (), in_group: Collection[int] = ()
) -> Mapping[int, Process]:
    """The living processes of one run. `leaders` are session leaders known to be its own, `in_group` the pids of its
    control group."""
    table = everyone()
    sessions = {leader.pid for leader in leaders if leader.pid not in table or table[leader.pid].identity == leader}
    # A session whose leader has ended keeps its number, and the kernel gives that number to no new process meanwhile.
    wanted = {f"{key}={value}".encode() for key, value in marks(workspace, run).items()}
    found = {
        pid
        for pid, process in table.items()
        if pid in in_group or process.session in sessions or wanted.issubset(_environment(pid))
    }
    return {pid: table[pid] for pid in _with_descendants(table, found)}


def session(leader: Identity) -> list[Process]:
    """The living members of one session, and what descends from them."""
    table = everyone()
    if leader.pid in table and table[leader.pid].identity != leader:
        return []  # that pid is another program's by now, so the session has ended
    found = {pid for pid, process in table.items() if process.session == leader.pid}
    return [table[pid] for pid in _with_descendants(table, found)]


def _with_descendants(table: Mapping[int, Process], found: set[int]) -> set[int]:
    more = found
    while more:
        more = {pid for pid, process in table.items() if process.parent in more and pid not in found}
        found = found | more
    return found


def available() -> int:
    """Bytes of memory that programs could still have."""
    for line in (_PROC / "meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 1 << 62  # a kernel that does not tell


def waited(pid: int) -> float:
    """Seconds that it has waited for a processor (the second field of /proc/<pid>/schedstat, in nanoseconds)."""
    try:
        return int((_PROC / str(pid) / "schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def anonymous(pid: int) -> int:
    """Bytes of memory that a process holds beyond files."""
    try:
        resident, shared = (_PROC / str(pid) / "statm").read_text().split()[1:3]
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * _PAGE


def send(process: Identity, number: signal.Signals) -> None:
    """Signal one process, and never another that has its pid by now. Success where it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        handle = os.pidfd_open(process.pid)
        try:
            if process.alive:
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def send_group(leader: Identity, number: signal.Signals) -> None:
    """Signal the process group that `leader` leads, if it still lives. Success where it is gone."""
    if leader.alive:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader.pid, number)
