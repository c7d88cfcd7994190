"""Environments of Python packages: locked by hash and built by uv.

The lock is a hashed requirements text. What the repository has locked is taken as it is, with its own hashes;
what it leaves open is resolved when `lock` is called. Like `uv sync`, it includes the development group, because a
workspace is where development happens, and unlike it leaves the repository's own package out: its source is at hand.
There is no pip inside: a generation is immutable, and packages are added by asking for them.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studiolo.environments import package_index, python_packages, uv_export, uv_install, uv_lockfile, uv_sources
from studiolo.environments.interpreter import Interpreter, Interpreters, Wish
from studiolo.environments.kind import (
    Activation,
    Detection,
    ExportFormat,
    Index,
    Lock,
    Package,
    Progress,
    Report,
    Request,
)
from studiolo.environments.pins import Pin, parse, render, version_in
from studiolo.environments.repository_file import read_text
from studiolo.environments.requirement import Wanted, wanted_all
from studiolo.environments.uv_program import Uv
from studiolo.environments.uv_resolve import Task, resolve
from studiolo.environments.uv_settings import Origin
from studiolo.environments.uv_sources import Declared, Place
from studiolo.environments.uv_upgrade import preference
from studiolo.problem import WrongInput

DEFAULT_PACKAGES = ("pandas", "scikit-learn", "matplotlib")
KERNEL = "ipykernel"


class UvKind:
    """`cache` is Studiolo's cache folder; it should lie on the generations' disk, so that files are shared."""

    name = "uv"
    in_place = False
    exports: tuple[ExportFormat, ...] = ("pylock", "requirements", "dockerfile", "flake")
    # Byte code is compiled after the build and by whoever imports first; compiled by the build it is the same.
    unlike: tuple[str, ...] = ("*/__pycache__/*", "build.log", "build.json")

    def __init__(self, cache: Path) -> None:
        self._uv = Uv(cache)
        self._interpreters = Interpreters(self._uv)
        self._compiling: set[asyncio.Task[None]] = set()

    def detect(self, folder: Path) -> Detection | None:
        name = uv_sources.find(folder)
        if name is None:
            return None
        says = f"{name} says in a comment what it needs" if name.endswith(".py") else f"{name} found"
        return Detection(self.name, says, name)

    def inputs(self, request: Request) -> Mapping[str, str]:
        place = uv_sources.choose(request)
        if place is None:
            return {}
        return {
            os.path.relpath(path, place.root): hashlib.sha256(read_text(place.root, path).encode()).hexdigest()
            for path in uv_sources.read(place, python=request.python is None).files
        }

    async def lock(self, request: Request, report: Report) -> Lock:
        place = uv_sources.choose(request)
        declared = uv_sources.read(place, python=request.python is None) if place else Declared()
        wish = Wish(request.python, "environment.python") if request.python else declared.python
        interpreter = await self._interpreters.choose(
            wish, lambda: report(Progress(f"downloading Python {wish.text if wish else ''}"))
        )
        asked, problems = wanted_all(request.packages, "environment.packages")
        if problems:
            raise WrongInput(*problems)
        pins = await self._fixed(place, declared, interpreter, report) if place else ()
        wanted = asked if declared.locked else (*declared.wanted, *asked)
        if place is None and not asked:
            wanted, _ = wanted_all(DEFAULT_PACKAGES, "the default environment")
        indexes = package_index.merged(request.indexes, declared.indexes)
        keep = preference(
            request.previous,
            request.upgrade,
            place=place,
            fixed=[pin.name for pin in pins],
            free=[each.name for each in wanted],
            indexes=indexes,
        )
        if KERNEL not in {each.name for each in wanted} | {pin.name for pin in pins}:
            wanted = (*wanted, Wanted.parse(KERNEL, "Studiolo, for notebooks"))
        notes = keep.notes
        if wanted:
            task = Task(wanted, declared.constraints, pins, keep.pins, keep.moving, indexes, declared.origins)
            pins, more = await resolve(self._uv, task, interpreter, report)
            notes += more
        there = {pin.name for pin in pins}
        origins = tuple(origin for origin in declared.origins if origin.package in there)
        source = place.shown if place else "packages" if asked else "default"
        facts = _facts(source, indexes, origins, notes)
        return Lock(self.name, render(pins), interpreter.version, sysconfig.get_platform(), facts)

    async def build(self, lock: Lock, folder: Path, report: Report, indexes: Sequence[Index] = ()) -> None:
        interpreter = await self._interpreter(lock, report)
        pins = parse(lock.text)
        await uv_install.install(self._uv, pins, interpreter, folder, report, *_places(lock, indexes))
        task = asyncio.create_task(uv_install.compile_modules(self._uv, folder), name="compile Python files")
        self._compiling.add(task)
        task.add_done_callback(self._compiling.discard)

    async def rebuild(self, lock: Lock, folder: Path, report: Report, indexes: Sequence[Index] = ()) -> None:
        with self._uv.scratch() as scratch:
            fresh = UvKind(scratch / "cache")
            try:
                await fresh.build(lock, folder, report, indexes)
            finally:
                await fresh.close()

    async def settle(self) -> None:
        """Wait until nothing is compiled in the background any more."""
        await asyncio.gather(*self._compiling)

    async def forget(self, lock: Lock) -> None:
        """All of it lies in its folder."""

    async def close(self) -> None:
        """Give up what is compiled in the background; it only costs speed."""
        for task in self._compiling:
            task.cancel()
        await asyncio.gather(*self._compiling, return_exceptions=True)

    def activate(self, lock: Lock, folder: Path) -> Activation:
        return Activation(
            path=(str(folder / "bin"),),
            # UV_PROJECT_ENVIRONMENT is not set on purpose: `uv sync` in a terminal makes the person's own .venv
            env={"VIRTUAL_ENV": str(folder), "VIRTUAL_ENV_PROMPT": "studiolo"},
            interpreter=str(folder / "bin" / "python"),
        )

    def describe(self, lock: Lock, folder: Path | None = None) -> tuple[Package, ...]:
        site = next(folder.glob("lib/python*/site-packages"), None) if folder else None
        there = python_packages.installed(site) if site else {}
        found = []
        for pin in parse(lock.text):
            known = there.get(pin.name)
            version = known.version if known else pin.version or version_in(pin.url)
            licence = known.licence if known else ""
            found.append(Package(pin.name, version, licence, python_packages.purl(pin.name, version)))
        return tuple(found)

    async def export(self, lock: Lock, form: ExportFormat, indexes: Sequence[Index] = ()) -> Mapping[str, str]:
        places, origins = _places(lock, indexes)
        if form == "pylock":
            interpreter = await self._interpreter(lock, lambda _: None)
            return await uv_export.pylock(self._uv, lock, interpreter, places, origins)
        used = package_index.merged(places, (Index(origin.url) for origin in origins))
        return uv_export.PLAIN[form](lock, used)

    async def _fixed(
        self, place: Place, declared: Declared, interpreter: Interpreter, report: Report
    ) -> tuple[Pin, ...]:
        """What the repository has locked itself."""
        if place.is_uv_lock:
            report(Progress(f"reading {place.shown}"))
            return await uv_lockfile.export(self._uv, place.root, place.path, interpreter)
        if declared.locked:
            return parse("".join(f"{each.line}\n" for each in declared.wanted), interpreter.version)
        return ()

    async def _interpreter(self, lock: Lock, report: Report) -> Interpreter:
        wish = Wish(lock.interpreter, "the lock")
        return await self._interpreters.choose(wish, lambda: report(Progress(f"downloading Python {lock.interpreter}")))


def _facts(source: str, indexes: Sequence[Index], origins: Sequence[Origin], notes: Sequence[str]) -> dict[str, Any]:
    """What a lock says beside its text. `indexes` are addresses; `bound` says which package comes from which."""
    facts: dict[str, Any] = {"source": source, **package_index.facts(indexes)}
    if origins:
        facts["bound"] = [[origin.package, origin.url, origin.marker] for origin in origins]
    if notes:
        facts["notes"] = list(notes)
    return facts


def _places(lock: Lock, given: Sequence[Index]) -> tuple[tuple[Index, ...], tuple[Origin, ...]]:
    """Where the lock's files lie, with the logins that were given, and what is bound to one of these places."""
    logins = {index.url.rstrip("/"): index.login for index in given}
    places = package_index.remembered(lock.facts)
    return (
        tuple(Index(each.url, each.default, logins.get(each.url.rstrip("/"))) for each in places),
        tuple(Origin(*(str(word) for word in words)) for words in lock.facts.get("bound", ())),
    )
