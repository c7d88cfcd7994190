"""What a backend is: the only thing a new one writes.

A backend gets frozen, fully resolved launches and returns frozen observations. It does not decide, and it never sees
the store, HTTP or settings. All backends pass `tests/backends`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Literal, Protocol


@dataclass(frozen=True)
class Zygote:
    """A Python that has imported what others begin with, and from which they may be forked instead of started.

    Forking is a matter of speed and memory only: a backend that cannot fork, or a program that needs other
    circumstances, is started in the ordinary way. Equal ones are one, so two people's never are.
    """

    python: tuple[str, ...]
    """The interpreter and its own options: what a program's argv must begin with, but for the path of a virtual
    environment over the same interpreter."""
    env: Mapping[str, str]
    """Complete, and nobody's own: no secret, no home."""
    begin: tuple[str, ...]
    """What every start imports: modules, or files to run."""
    ahead: tuple[str, ...] = ()
    """Modules that somebody will probably import. One that cannot be shared by forking is left out."""
    owner: str = ""

    @cached_property
    def key(self) -> str:
        """The same for equal ones."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class AppLaunch:
    """One program of a workspace. Listens on `socket`; where argv or env holds `{port}`, on a loopback port that the
    backend chooses and joins to `socket`."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    """Complete: the process gets these variables and no others."""
    socket: str
    cwd: str
    ready: str = "/"
    timeout: float = 120.0
    """Seconds until it must be ready."""
    zygote: Zygote | None = None
    """What it may be forked from."""


@dataclass(frozen=True)
class Mount:
    """A host folder that appears at `path` (relative to the home)."""

    source: str
    path: str


@dataclass(frozen=True)
class SeedFile:
    """A file (absolute path) to write before the apps start; with `keep`, only where there is none."""

    path: str
    text: str
    keep: bool


@dataclass(frozen=True)
class Launch:
    """A workspace, fully resolved. `run` is the id of this one run of it: a restart gets a new one."""

    id: str
    run: str
    name: str
    owner: str
    home: str
    logs: str
    apps: tuple[AppLaunch, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    """What `exec` and terminals get: complete, as for an app."""
    cwd: str = ""
    mounts: tuple[Mount, ...] = ()
    seeds: tuple[SeedFile, ...] = ()
    cpu: float | None = None
    """Cores; None: no limit."""
    memory: int | None = None
    """Bytes; None: no limit."""
    kernels: Zygote | None = None
    """What the workspace's own programs may have kernels forked from."""


@dataclass(frozen=True)
class Checkpoint:
    """A step of a start that has been made. What it made is found again by `observe`, so a crash leaks nothing."""

    stage: str
    message: str


AppState = Literal["starting", "ready", "restarting", "failed", "stopped"]


@dataclass(frozen=True)
class AppObservation:
    name: str
    state: AppState
    pid: int | None = None
    restarts: int = 0
    reason: str = ""
    """Why it is restarting or failed, with its last log lines."""


@dataclass(frozen=True)
class Ahead:
    """What is imported ahead for a workspace's kernels. `left_out` says for each module that is not why."""

    ready: bool
    modules: tuple[str, ...]
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class Observation:
    """One workspace that the backend knows of. It is listed from the first checkpoint of `start` until `stop` or
    `delete` has ended its last process."""

    id: str
    run: str
    apps: tuple[AppObservation, ...]
    stopping: bool = False
    notes: tuple[str, ...] = ()
    """What could not be honoured here, said plainly: `memory is not limited: ...`."""
    ahead: Ahead | None = None
    """None where its kernels are not forked."""


@dataclass(frozen=True)
class LogLine:
    app: str
    text: str


@dataclass(frozen=True)
class Usage:
    """Totals of all processes of one workspace."""

    cpu_seconds: float
    """CPU time of this run so far; never falls within a run."""
    memory: int
    """Resident bytes."""
    processes: int


@dataclass(frozen=True)
class Features:
    """What a backend can do."""

    limits_cpu: bool
    limits_memory: bool
    explanation: str = ""
    """Where a limit cannot be kept: why."""


@dataclass(frozen=True)
class Output:
    """A piece of what a program printed: stream 1 is stdout, 2 is stderr."""

    stream: Literal[1, 2]
    data: bytes


class Execution(Protocol):
    """A program run by `exec`. Iterate for output; afterwards `status` is set."""

    status: int | None
    """Exit status, or 128 + signal; None while it runs."""

    def __aiter__(self) -> AsyncIterator[Output]: ...
    async def write(self, data: bytes) -> None:
        """Send to its standard input; empty bytes close it."""
        ...

    async def resize(self, columns: int, rows: int) -> None: ...
    async def close(self) -> None:
        """End it (hang-up, then kill). Idempotent."""
        ...


class Backend(Protocol):
    name: str

    async def ensure(self) -> None:
        """Bring up what the backend itself needs (a host agent) where it is not up. Cheap and idempotent: called again
        and again. Raises `StudioloError` where it cannot."""
        ...

    async def shutdown(self) -> None:
        """End what `ensure` brought up. What runs goes on running."""
        ...

    async def features(self) -> Features: ...

    async def warm(self, zygotes: Sequence[Zygote]) -> None:
        """Something will probably be forked from these soon: bring them up in the background, at low priority and where
        there is memory for it. Returns at once; idempotent. They go by themselves when they have not been wanted for
        some minutes."""
        ...

    def start(self, launch: Launch) -> AsyncIterator[Checkpoint]:
        """Start all apps; ends when they have been started, not when they are ready (`observe` tells that).

        Starting a run that already runs starts those of its apps that it does not have yet (their tools came later) and
        leaves the others alone; another run of the same workspace is stopped first.
        Raises `StudioloError` with a reason a person can act on.
        """
        ...

    async def stop(self, id: str, grace: float) -> None:
        """End all its processes: ask, wait `grace` seconds, kill. Success where nothing runs."""
        ...

    async def delete(self, id: str) -> None:
        """Stop at once and forget all the backend itself keeps (not the home). Success where there is nothing."""
        ...

    async def observe(self) -> Sequence[Observation]:
        """All that runs here now, adopted or started by us."""
        ...

    def logs(self, id: str, *, app: str | None = None, follow: bool = False, tail: int = 200) -> AsyncIterator[LogLine]:
        """The last `tail` lines of each app, oldest first; with `follow`, then new ones as they come."""
        ...

    async def exec(self, id: str, argv: Sequence[str], *, tty: tuple[int, int] | None = None) -> Execution:
        """Run a program inside the running workspace. `tty`: on a terminal of (columns, rows)."""
        ...

    async def usage(self, id: str) -> Usage | None:
        """None where it does not run."""
        ...
