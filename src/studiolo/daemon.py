"""Long-lived processes of our own (control plane, host agent, nginx, relay): started detached, found again, ended.

A pid file holds the pid and the kernel's start time of that process (`/proc/<pid>/stat`, field 22, in clock ticks since
boot). So a pid that belongs to another program by now, or a clock that was set back, deceives nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Identity:
    """One process, not just one pid."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """The process that has this pid now; None where there is none, or only a zombie."""
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        fields = text.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]))

    @property
    def alive(self) -> bool:
        return Identity.of(self.pid) == self


def write_pid_file(path: Path, pid: int | None = None) -> Identity:
    """Record a running process (default: this one), atomically."""
    identity = Identity.of(pid or os.getpid())
    if identity is None:
        raise ProcessLookupError(pid)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(json.dumps({"pid": identity.pid, "started": identity.started}))
    draft.replace(path)
    return identity


def read_pid_file(path: Path) -> Identity | None:
    """The recorded process, if it still runs. A missing, broken or stale file is None."""
    try:
        record = json.loads(path.read_text())
        identity = Identity(int(record["pid"]), int(record["started"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return identity if identity.alive else None


def spawn(
    argv: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start a detached process in a session of its own, its output appended to `log`. The caller reaps it (`poll`)."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(env) if env is not None else None,
            cwd=cwd,
            start_new_session=True,
        )


def python_module(module: str, *arguments: str) -> list[str]:
    """The argv that runs a module of ours with the Python that runs us, without the person's own PYTHON* variables."""
    return [sys.executable, "-I", "-m", module, *arguments]


async def wait_until(condition: Callable[[], bool], timeout: float, interval: float = 0.02) -> bool:
    """Whether the condition came true within `timeout` seconds."""
    deadline = asyncio.get_running_loop().time() + timeout
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(interval)
    return True


async def terminate(identity: Identity, grace: float) -> None:
    """End a process: SIGTERM, `grace` seconds, SIGKILL to its process group. Success where it is gone already."""
    if identity.alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(identity.pid, signal.SIGTERM)
        if not await wait_until(lambda: not identity.alive, grace):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(identity.pid, signal.SIGKILL)
            await wait_until(lambda: not identity.alive, 5)
