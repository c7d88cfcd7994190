"""The one gate for every outside program that runs to its end: argv lists, typed results, no shell."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from studiolo.daemon import Identity
from studiolo.problem import Problem, StudioloError

_MARK = "STUDIOLO_PARENT"


@dataclass(frozen=True)
class Completed:
    """How a program ended. `status` is its exit status, or minus the signal that ended it."""

    argv: tuple[str, ...]
    status: int
    output: str

    @property
    def ok(self) -> bool:
        return self.status == 0

    @property
    def last_lines(self) -> str:
        """The end of what it printed: what a reason quotes."""
        return "\n".join([line for line in self.output.splitlines() if line.strip()][-12:])


class ProgramFailed(StudioloError):
    """A program could not be started, failed, or ran past its time."""

    def __init__(self, problem: Problem, completed: Completed | None = None) -> None:
        super().__init__(problem)
        self.completed = completed


async def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    on_line: Callable[[str], None] | None = None,
    check: bool = True,
    stdout_only: bool = False,
    background: bool = False,
) -> Completed:
    """Run a program to its end and return what it printed (stdout and stderr together, or stdout alone).

    `env` replaces the environment (default: this process's own). `on_line` sees each line as it is printed. On
    cancellation or timeout (seconds) the program and its children (its process group) are killed. With `background`
    it and its children only get the processor time that nobody else wants. Raises
    `ProgramFailed` if it cannot be started, times out or, with `check`, ends with a status other than 0.
    """
    words = tuple(str(word) for word in argv)
    name = Path(words[0]).name
    try:
        child = await asyncio.create_subprocess_exec(
            *words,
            cwd=cwd,
            env={**(os.environ if env is None else env), _MARK: _mark()},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL if stdout_only else asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=1 << 20,
        )
    except OSError as error:
        raise ProgramFailed(
            Problem("program-missing", f"{name} cannot be started: {error.strerror}", "run `studiolo doctor`")
        ) from error
    if background:
        _yield_to_others(child.pid)
    assert child.stdout is not None
    lines: list[str] = []
    try:
        async with asyncio.timeout(timeout):
            while raw := await _line(child.stdout):
                line = raw.decode(errors="replace")
                lines.append(line)
                if on_line is not None:
                    on_line(line.rstrip("\n"))
            status = await child.wait()
    except TimeoutError as error:
        completed = Completed(words, -signal.SIGKILL, "".join(lines))
        raise ProgramFailed(
            Problem("program-timeout", f"{name} did not end within {timeout:g} s"), completed
        ) from error
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await asyncio.shield(child.wait())
    completed = Completed(words, status, "".join(lines))
    if check and not completed.ok:
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"failed with exit status {status}"
        raise ProgramFailed(Problem("program-failed", f"{name} {how}:\n{completed.last_lines}"), completed)
    return completed


def end_orphans() -> int:
    """Kill programs that `run` started in a process that has died without ending them; returns how many there were.

    A control plane that was killed leaves an installation running that nobody waits for any more.
    """
    count = 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        mark = next((word for word in environment if word.startswith(f"{_MARK}=".encode())), b"").decode()
        if mark and not _lives(mark.partition("=")[2]):
            with contextlib.suppress(OSError):
                os.kill(int(folder.name), signal.SIGKILL)
                count += 1
    return count


def _mark() -> str:
    own = Identity.of(os.getpid())
    assert own is not None, "this process lives"
    return f"{own.pid}:{own.started}"


def _lives(mark: str) -> bool:
    try:
        pid, started = mark.split(":")
        return Identity(int(pid), int(started)).alive
    except ValueError:
        return False


def _yield_to_others(session: int) -> None:
    """The lowest priority, within its session and, where the kernel groups sessions (sched(7), autogroup), as one."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PGRP, session, 19)
    with contextlib.suppress(OSError):
        Path(f"/proc/{session}/autogroup").write_text("19")


async def _line(stream: asyncio.StreamReader) -> bytes:
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError as error:
        return await stream.readexactly(error.consumed)
