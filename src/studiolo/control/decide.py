"""What to do next with one workspace: a pure function of what is desired and what is observed.

Level-triggered: nothing here remembers an event. Whatever happened while nobody looked (a crash, a reboot, a control
plane that was away), the same inputs give the same step.

A run that is to be replaced goes on until what replaces it is built, so that an environment that cannot be built takes
nobody's work away.

    pending ──► building ──► starting ──► running
       ▲            │            │           │
       │            └────────────┴───────────┴──► failed (with a reason; stays until asked again)
       └── stopped ◄── stopping ◄── any of them         deleting ──► gone
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from studiolo.resources import Phase

Target = Literal["running", "stopped", "deleted"]
AppState = Literal["starting", "ready", "restarting", "failed", "stopped"]

# A run whose processes vanish (a reboot, a host agent that lost them) is started again this often, then it has failed.
STARTS_PER_RUN = 3


@dataclass(frozen=True)
class Desired:
    """What a person, a schedule or a budget wants."""

    target: Target
    run: str
    """The run that is wanted. Asking to start or restart asks for a new one, so a failure is of one run only."""


@dataclass(frozen=True)
class Runtime:
    """What the backend says of a workspace that it knows."""

    run: str
    apps: Mapping[str, AppState]
    stopping: bool = False


@dataclass(frozen=True)
class Observed:
    phase: Phase
    runtime: Runtime | None
    built: bool
    """Its environment's generation is there, or it needs none: in rescue."""
    startable: frozenset[str]
    """The apps whose tools are there."""
    starts: int = 0
    """How often the desired run has been started."""
    relock: bool = False
    """Its environment is to be looked at anew."""


@dataclass(frozen=True)
class Wait:
    """Nothing to do until something changes."""


@dataclass(frozen=True)
class Build:
    """Lock and build the environment, and have the tools of at least one app."""


@dataclass(frozen=True)
class Start:
    """Start these apps of the desired run; what already runs of it is left alone."""

    apps: frozenset[str]


@dataclass(frozen=True)
class Ready:
    """It can be used."""


@dataclass(frozen=True)
class Fail:
    """Stop what is left and say why; `apps` are the ones whose reasons count."""

    apps: tuple[str, ...] = ()
    code: str = "app-failed"


@dataclass(frozen=True)
class Stop:
    """End all its processes."""


@dataclass(frozen=True)
class Stopped:
    """Note that nothing runs any more."""


@dataclass(frozen=True)
class Remove:
    """Forget it."""


Step = Wait | Build | Start | Ready | Fail | Stop | Stopped | Remove


def next_step(desired: Desired, observed: Observed) -> Step:
    """The one step that brings what is observed nearer to what is desired."""
    runtime = observed.runtime
    if desired.target == "deleted":
        return Remove() if runtime is None else Stop()
    if desired.target == "stopped":
        if runtime is not None:
            return Stop()
        if observed.relock:
            return Build()
        return Wait() if observed.phase in ("stopped", "failed") else Stopped()
    if observed.phase == "failed":
        return Stop() if runtime is not None else Wait()
    if runtime is not None and runtime.stopping:
        return Stop()
    if observed.relock or not observed.built or not observed.startable:
        return Build()
    if runtime is not None and runtime.run != desired.run:
        return Stop()
    if runtime is None:
        return Start(observed.startable) if observed.starts < STARTS_PER_RUN else Fail(code="vanished")
    missing = observed.startable - runtime.apps.keys()
    if missing:
        return Start(frozenset(missing))
    if all(state == "failed" for state in runtime.apps.values()):
        return Fail(tuple(sorted(runtime.apps)))
    if observed.phase != "running" and "ready" in runtime.apps.values():
        return Ready()
    return Wait()
