"""What an environment kind is: detect, lock, build, activate, describe.

A *request* says what is wanted, a *lock* says exactly what that is, a *generation* is the lock built on disk:
immutable and addressed by the lock's hash, so two workspaces with the same lock share one. A kind is one module
with one class; adding one touches `environments.kinds` and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

ExportFormat = Literal["pylock", "requirements", "dockerfile", "flake"]
"""What a lock can be written as for other tools."""


@dataclass(frozen=True)
class Index:
    """Where packages are downloaded from, beside or (`default`) instead of the machine's own index."""

    url: str
    default: bool = False
    login: tuple[str, str] | None = field(default=None, repr=False)
    """User name and password. Never in a lock, a log or an argument list."""


@dataclass(frozen=True)
class Upgrade:
    """Which packages may move to newer versions although nothing that was asked for has changed: these, or all."""

    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """What is wanted. `folder` is where the repository lies, None where there is none; `project` is a folder in it and
    `file` the declaring file in that, where somebody chose them."""

    folder: Path | None = None
    project: str | None = None
    packages: tuple[str, ...] = ()
    python: str | None = None
    file: str | None = None
    image: str | None = None
    indexes: tuple[Index, ...] = ()
    previous: Lock | None = None
    """What was locked before: versions that still fit are kept, but for those `upgrade` names."""
    upgrade: Upgrade | None = None


@dataclass(frozen=True)
class Detection:
    """A kind recognises a folder by one of its files. `reason` is shown to the person: `uv.lock found`."""

    kind: str
    reason: str
    file: str = ""


@dataclass(frozen=True)
class Lock:
    """Exactly what will be installed. `text` is the kind's own lock document (for uv: hashed requirements); `facts` are
    for people and for the build, and are no part of the address."""

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
    """`licence` is an SPDX expression or the package's own words, empty where unknown; `purl` is a package URL."""

    name: str
    version: str
    licence: str = ""
    purl: str = ""


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
    in_place: bool
    """What is built holds its own path, so it is built where it will lie and cannot be moved."""
    exports: tuple[ExportFormat, ...]
    """What `export` can write."""
    unlike: tuple[str, ...]
    """Patterns (fnmatch, of paths relative to the generation) of files that two builds of one lock may differ in."""

    def detect(self, folder: Path) -> Detection | None:
        """Whether this folder declares such an environment. Reads a few small files; raises nothing."""
        ...

    def inputs(self, request: Request) -> Mapping[str, str]:
        """SHA-256 of each file that `lock` would read, by its path relative to the repository: while these and the
        request are the same, so is what is asked for. Raises `WrongInput` where one cannot be read."""
        ...

    async def lock(self, request: Request, report: Report) -> Lock:
        """Resolve. Never writes into the person's repository. Raises `StudioloError` (package-not-found, ...).

        `facts["source"]` says what it was made from: a file's name, `packages` or `default`.
        """
        ...

    async def build(self, lock: Lock, folder: Path, report: Report, indexes: Sequence[Index] = ()) -> None:
        """Install into the empty `folder`, which is renamed afterwards: nothing inside may hold its path, unless the
        kind is `in_place`."""
        ...

    async def rebuild(self, lock: Lock, folder: Path, report: Report, indexes: Sequence[Index] = ()) -> None:
        """Like `build`, but using nothing that an earlier build has left: to see whether the same comes out."""
        ...

    def activate(self, lock: Lock, folder: Path) -> Activation:
        """How to enter the generation that lies at `folder`. Pure, but for a look at which files are there."""
        ...

    def describe(self, lock: Lock, folder: Path | None = None) -> tuple[Package, ...]:
        """What is in it, sorted by name; with the built `folder`, its licences too."""
        ...

    async def export(self, lock: Lock, form: ExportFormat, indexes: Sequence[Index] = ()) -> Mapping[str, str]:
        """The lock for other tools, as files by name. `form` is one of `exports`. `indexes` may hold log-ins."""
        ...

    async def forget(self, lock: Lock) -> None:
        """Let go of what is kept outside a generation that has been removed. Idempotent."""
        ...

    async def close(self) -> None:
        """End what still goes on in the background after a build. Nothing is lost by it but speed."""
        ...
