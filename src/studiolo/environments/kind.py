"""What an environment kind is: detect, lock, build, activate, describe.

A *request* says what is wanted, a *lock* says exactly what that is, a *generation* is the lock built on disk:
immutable and addressed by the lock's hash, so two workspaces with the same lock share one. A kind is one module
with one class; adding one touches `environments.kinds` and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Request:
    """What is wanted. `folder` is where the repository lies, None where there is none."""

    folder: Path | None = None
    project: str | None = None
    packages: tuple[str, ...] = ()
    python: str | None = None


@dataclass(frozen=True)
class Detection:
    """A kind recognises a folder. `reason` is shown to the person: `uv.lock found`."""

    kind: str
    reason: str


@dataclass(frozen=True)
class Lock:
    """Exactly what will be installed. `text` is the kind's own lock document (for uv: hashed requirements)."""

    kind: str
    text: str
    interpreter: str = ""
    platform: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The generation's address: 16 hexadecimal digits of SHA-256 over kind, interpreter, platform and text."""
        material = json.dumps([self.kind, self.interpreter, self.platform, self.text])
        return hashlib.sha256(material.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Activation:
    """How a process enters the generation: variables to set, folders to put in front of PATH."""

    path: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    interpreter: str | None = None
    """The Python that runs kernels; None where the environment has none."""


@dataclass(frozen=True)
class Package:
    name: str
    version: str


@dataclass(frozen=True)
class Progress:
    """One step of a long build, for people: `done` of `total` where that is known."""

    message: str
    done: int | None = None
    total: int | None = None


Report = Callable[[Progress], None]


class Kind(Protocol):
    """One way to describe and build an environment. Methods that wait can be cancelled at any await."""

    name: str

    def detect(self, folder: Path) -> Detection | None:
        """Whether this folder declares such an environment. Reads a few small files; raises nothing."""
        ...

    async def lock(self, request: Request, report: Report) -> Lock:
        """Resolve. Never writes into the person's repository. Raises `StudioloError` (package-not-found, ...)."""
        ...

    async def build(self, lock: Lock, folder: Path, report: Report) -> None:
        """Install into the empty `folder`, which is renamed afterwards: nothing inside may hold its path."""
        ...

    def activate(self, lock: Lock, folder: Path) -> Activation:
        """How to enter the generation that lies at `folder`. Pure."""
        ...

    def describe(self, lock: Lock) -> tuple[Package, ...]:
        """What is in it, sorted by name. Pure."""
        ...

    async def close(self) -> None:
        """End what still goes on in the background after a build. Nothing is lost by it but speed."""
        ...
