"""Idle is a matter of evidence; unknown counts as active.

Time is taken from the monotonic clock, and a time stamp that an app reports is only compared with the one it reported
before: a clock that is set back or forward stops nobody's work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# Cores, averaged between two looks: below this a workspace's own housekeeping, above it somebody's computation.
BUSY_CORES = 0.15


@dataclass(frozen=True)
class Evidence:
    """One look at a running workspace. `stamps` are the last signs of life that apps and the edge report."""

    busy: Sequence[str] = ()
    """Reasons why it is in use right now: `a kernel is busy`."""
    unknown: Sequence[str] = ()
    """What should have answered and did not."""
    stamps: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Watch:
    """What is remembered between two looks."""

    run: str
    active_at: float
    """Monotonic time of the last activity."""
    why: str
    stamps: Mapping[str, float]


def look(watch: Watch | None, run: str, evidence: Evidence, now: float) -> Watch:
    """Take one look into account. Pure; `now` is monotonic seconds."""
    if watch is None or watch.run != run:
        return Watch(run, now, "it was started", evidence.stamps)
    moved = [name for name, stamp in evidence.stamps.items() if watch.stamps.get(name) != stamp]
    signs = [*evidence.busy, *evidence.unknown, *(f"input in {name}" for name in moved)]
    if signs:
        return Watch(run, now, signs[0], evidence.stamps)
    return Watch(run, watch.active_at, watch.why, evidence.stamps)


def is_idle(watch: Watch, after: float | None, now: float) -> bool:
    """Whether it has been unused for `after` seconds (None: never)."""
    return after is not None and now - watch.active_at >= after


def explain(watch: Watch, now: float) -> str:
    """For the history: `unused for 2h 5m; last sign of life: input in jupyterlab`."""
    minutes = int((now - watch.active_at) // 60)
    length = f"{minutes // 60}h {minutes % 60}m" if minutes >= 60 else f"{minutes}m {int(now - watch.active_at) % 60}s"
    return f"unused for {length}; last sign of life: {watch.why}"
