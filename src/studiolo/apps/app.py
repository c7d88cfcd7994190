"""What an app is: a declaration of how to start a program that serves HTTP on a Unix socket, and how to ask after it.

A kind of app is one module with one class; adding one touches `apps.kinds` and nothing else. Apps decide nothing
about where they run: they are given a `Place` and return a `Process`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from studiolo.spec.document import App as AppDocument


@dataclass(frozen=True)
class Tools:
    """The software the app itself is made of, apart from the workspace's environment: built as a generation too.

    `kind` is an environment kind (`uv`, `npm`), `packages` its requirements.
    """

    kind: str
    packages: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """Where an app will run. All paths are as the app's process sees them."""

    workspace: str
    home: Path
    folder: Path
    """The working folder: the repository, or the home."""
    settings: Path
    """Below this the app keeps what people change (settings, extensions): the home, or in rescue mode (the home is
    full or read-only) a folder outside it."""
    state: Path
    """A folder of Studiolo's own for this app, outside the home, empty at first; may be thrown away between runs."""
    socket: Path
    tools: Path | None
    """The tools generation; None where the app needs none."""
    interpreter: str | None
    """The environment's Python; None where it has none."""
    prefixes: tuple[Path, ...]
    """Where that Python's software lies (`<prefix>/share/jupyter`), what counts first in front."""
    url: str
    """The app's own origin, such as http://jupyterlab--demo--ada.localhost:8800"""
    environment: str = "Python"
    """What the environment is called in a kernel list."""


@dataclass(frozen=True)
class Seed:
    """A file written before the app starts. `keep`: only where there is none yet, so that people's changes stay."""

    path: Path
    text: str
    keep: bool = False


@dataclass(frozen=True)
class Process:
    """A program to run. It serves the app at `/` of its socket, and `/` leads to a good first sight.

    `{port}` in argv or env stands for a loopback port chosen at start; a program that listens on one is joined to its
    socket by the backend. `{socket}` has been filled in already. `path` goes in front of the environment's PATH.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    path: tuple[str, ...] = ()
    seeds: tuple[Seed, ...] = ()
    ready: str = "/"
    """A path that answers below 500 once the app is up."""
    timeout: float = 120.0
    """Seconds until then, at most."""
    notes: tuple[str, ...] = ()
    """What a person should know of it."""


@dataclass(frozen=True)
class Beginning:
    """What every start of an app has in common, so that it can be done once for all of them.

    `python` is the interpreter with its own options, as the app's argv begins; `begin` are modules to import, or files
    to run.
    """

    python: tuple[str, ...]
    begin: tuple[str, ...]


@dataclass(frozen=True)
class Activity:
    """Evidence of use. `busy`: something runs now. `last`: Unix time of the last sign of life, None if unknown."""

    busy: bool
    last: float | None
    why: str


class AppKind(Protocol):
    name: str

    def tools(self, document: AppDocument) -> Tools | None:
        """What must be installed for it. Pure."""
        ...

    def process(self, document: AppDocument, place: Place) -> Process:
        """How to start it. May look into the home and the folder, changes nothing."""
        ...

    def beginning(self, tools: Path | None) -> Beginning | None:
        """What it begins with; None where it is not a Python program, or has no more than its own in common. Pure."""
        ...

    async def activity(self, socket: Path) -> Activity | None:
        """Ask the running app; None where it cannot tell. Bounded to a few seconds; never raises."""
        ...
