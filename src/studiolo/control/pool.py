"""Ready pools: which starts are kept ready for workspaces to come, and which go. Pure.

A *spare* is a start that nobody has yet: an id, a home and processes, but no name, and so no address. It belongs to a
*pool*, the spares for one document of one account. A workspace that is made from that document takes one over, home
and all. A document asks for a pool with `warm`; it is there for as long as a workspace of that document is.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from studiolo.spec.document import Resolved

State = Literal["coming", "ready", "failed"]

OLDEST = 86400.0
"""Seconds. No environment that leaves versions open is older when a workspace is made, and no clone needs to be."""
RESERVE = 1 << 30
"""Bytes of memory that a new spare must leave: people's own starts need some."""
SHORT = 512 << 20
"""Bytes. Where less memory is available, spares are ended, one after the other."""
# Seconds between a failure and the next try. In between: as long as it has been failing for.
_SOONEST, _LATEST = 60.0, 3600.0


@dataclass(frozen=True)
class Spare:
    id: str
    pool: str
    state: State
    made: float
    """Unix seconds."""
    failed: float = 0.0
    """Unix seconds; means nothing in another state."""
    outdated: bool = False
    """A workspace made now would have another environment."""


@dataclass(frozen=True)
class Wanted:
    """A pool as its documents ask for it."""

    spares: int
    memory: int
    """Bytes that one more is likely to take."""


@dataclass(frozen=True)
class Plan:
    """What to do now. One spare is made at a time, so that what one takes is known before the next is made."""

    make: str | None = None
    """The pool."""
    retry: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


def pool_of(account: str, backend: str, document: Resolved) -> str:
    """The pool that fits a document: the same for all that start alike, whatever they are called."""
    alike = document.model_dump(mode="json", exclude_defaults=True, exclude={"name", "idle", "warm"})
    return hashlib.sha256(json.dumps([account, backend, alike], sort_keys=True).encode()).hexdigest()[:20]


def refusal(document: Resolved) -> str | None:
    """Why no start of it can be kept ready; None where it can."""
    if document.repository is not None and "://" not in document.repository:
        return (
            "its repository is a folder of this machine, which changes while a start that has read it waits; "
            "a pool needs an https:// Git address"
        )
    return None


def plan(wanted: Mapping[str, Wanted], spares: Sequence[Spare], available: int, now: float) -> Plan:
    """What brings the spares nearer to what is wanted. `available` is memory in bytes, `now` Unix seconds."""
    remove = [each for each in spares if each.pool not in wanted or each.outdated or now - each.made > OLDEST]
    kept = [each for each in spares if each not in remove]
    for pool, wish in wanted.items():
        # those that answer are kept first, then those that will, and of the same the older
        line = sorted((each for each in kept if each.pool == pool), key=lambda each: (_rank(each), each.made))
        remove += line[wish.spares :]
    kept = [each for each in kept if each not in remove]
    if available < SHORT and kept and not remove:
        remove = [max(kept, key=lambda each: (_rank(each), each.made))]
        kept = [each for each in kept if each not in remove]
    return Plan(
        make=_next(wanted, kept, available),
        retry=tuple(each.id for each in kept if each.state == "failed" and now >= next_try(each)),
        remove=tuple(each.id for each in remove),
    )


def next_try(spare: Spare) -> float:
    """When one that has failed is tried again, in Unix seconds."""
    return spare.failed + min(max(spare.failed - spare.made, _SOONEST), _LATEST)


def _rank(spare: Spare) -> int:
    return ("ready", "coming", "failed").index(spare.state)


def _next(wanted: Mapping[str, Wanted], kept: Sequence[Spare], available: int) -> str | None:
    """The emptiest pool that there is memory for. A failed spare holds its place: the next would fail as well."""
    if any(each.state == "coming" for each in kept):
        return None
    there = Counter(each.pool for each in kept)
    failing = {each.pool for each in kept if each.state == "failed"}
    lacking = [
        pool
        for pool, wish in wanted.items()
        if there[pool] < wish.spares and pool not in failing and available - wish.memory >= RESERVE
    ]
    return min(lacking, key=lambda pool: (there[pool], pool), default=None)
