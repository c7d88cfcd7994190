"""Starting a process so that nothing can be lost: it waits at a gate until it has been placed and recorded.

`spawn` forks a child that blocks on a pipe. Its pid goes into the control group and into the durable record; only then
`release` lets it run the program. If the agent dies in between, the pipe closes and the child ends without having run
anything. So there is no window in which a program runs that nobody knows of, or outside its group.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import termios
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from studiolo.daemon import Identity

_GO = b"g"


@dataclass
class Gated:
    """A child that waits at its gate. Exactly one of `release` and `abandon` must follow."""

    identity: Identity
    gate: int
    """Writing lets it go."""
    verdict: int
    """Says which error kept it from starting; closes silently when the program runs."""

    async def release(self) -> OSError | None:
        """Let it run the program; returns why that failed, or None. (Entering a folder or reading a program can take
        long on a network file system, so this waits without blocking others.)"""
        with contextlib.suppress(BrokenPipeError):
            os.write(self.gate, _GO)
        os.close(self.gate)
        spoken = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self.verdict, spoken.set)
        try:
            await spoken.wait()
            failure = os.read(self.verdict, 16)
        finally:
            loop.remove_reader(self.verdict)
            os.close(self.verdict)
        return OSError(int(failure), os.strerror(int(failure))) if failure else None

    def abandon(self) -> None:
        """It ends without having run anything."""
        os.close(self.gate)
        os.close(self.verdict)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.identity.pid, 0)


def spawn(
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    streams: tuple[int, int, int],
    *,
    terminal: bool = False,
) -> Gated:
    """Fork a child in a session of its own, with exactly this environment and these three streams.

    `terminal`: stream 0 is a terminal and becomes the session's controlling one. Raises `OSError`.
    """
    gate_end, gate = os.pipe()
    verdict, verdict_end = os.pipe()
    pid = -1
    # A signal between fork and exec must not reach the agent's own handlers, whose wake-up pipe the child shares.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _become(argv, env, cwd, streams, gate_end, gate, verdict_end, terminal)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.close(gate_end)
        os.close(verdict_end)
        if pid < 0:  # there can be none
            os.close(gate)
            os.close(verdict)
    identity = Identity.of(pid)
    if identity is None:
        os.close(gate)
        os.close(verdict)
        raise ProcessLookupError(pid)
    return Gated(identity, gate, verdict)


def _become(
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    streams: tuple[int, int, int],
    gate_end: int,
    gate: int,
    verdict_end: int,
    terminal: bool,
) -> None:
    """The child's side: never returns. All other descriptors close at exec, as Python makes them."""
    try:
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.close(gate)
        os.setsid()
        if os.read(gate_end, 1) != _GO:
            os._exit(0)
        for target, stream in enumerate(streams):
            os.dup2(stream, target)
        if terminal:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        os.chdir(cwd)
        os.execvpe(argv[0], list(argv), dict(env))
    except OSError as error:
        os.write(verdict_end, str(error.errno).encode())
    finally:
        os._exit(127)


@dataclass(frozen=True)
class Ending:
    """How a process ended. `status` is None where it was not our child, so that nobody could tell us."""

    status: int | None
    cpu_seconds: float = 0.0
    """Its own and that of the children it had waited for."""

    @property
    def killed(self) -> bool:
        return self.status == -signal.SIGKILL

    @property
    def words(self) -> str:
        if self.status is None:
            return "ended (how is not known: the host agent was restarted in between)"
        if self.status >= 0:
            return f"exited with status {self.status}"
        try:
            return f"was ended by {signal.Signals(-self.status).name}"
        except ValueError:
            return f"was ended by signal {-self.status}"


async def ended(process: Identity) -> Ending:
    """Wait until this very process has ended, child of ours or not, and reap it if it is. Safe to cancel."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return Ending(None)
    try:
        if process.alive:
            gone = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.add_reader(handle, gone.set)
            try:
                await gone.wait()
            finally:
                loop.remove_reader(handle)
        return _reap(process.pid)
    finally:
        os.close(handle)


_births = 0
_PR_SET_CHILD_SUBREAPER = 36


@contextlib.contextmanager
def adopting() -> Iterator[None]:
    """Meanwhile, what below us loses its parent becomes our own child, so that its end is told to us: a zygote's child
    on its way. At all other times it goes to init, as programs expect that look out for that."""
    global _births
    _births += 1
    _adopt(True)
    try:
        yield
    finally:
        _births -= 1
        _adopt(_births > 0)


def _adopt(orphans: bool) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(orphans), 0, 0, 0)


def reap_orphans(before: set[int]) -> set[int]:
    """Let go of children that have ended and were so already in `before`: nobody waits for them, as somebody would have
    been told by now. Returns those that have ended just now."""
    try:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    except OSError:
        return set()
    ended_now = {int(pid) for pid in children if _is_zombie(pid)}
    for pid in ended_now & before:
        _reap(pid)
    return ended_now - before


def _is_zombie(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


def _reap(pid: int) -> Ending:
    try:
        reaped, status, usage = os.wait4(pid, os.WNOHANG)
    except ChildProcessError:
        return Ending(None)
    if reaped == 0:
        return Ending(None)
    return Ending(os.waitstatus_to_exitcode(status), _cpu(usage))


def _cpu(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime
