"""Environments of conda packages: an environment.yml, solved and installed by rattler, its pip section by uv.

The lock lists each package's exact file and hash. Packages are hard links into a cache that all generations share, but
for the files that hold the prefix: those are written for the folder that is built, which so cannot be moved. Scripts
that packages bring for linking and for activation are not run; what they would set as plain variables is.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from studiolo.environments import conda_export, conda_file, conda_pip, package_index, python_packages
from studiolo.environments.build_log import BuildLog
from studiolo.environments.conda_file import CondaFile, Spec
from studiolo.environments.conda_lock import CondaLock
from studiolo.environments.conda_program import Conda, Solution
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
from studiolo.environments.repository_file import read_text
from studiolo.environments.requirement import Wanted, wanted_all
from studiolo.environments.uv_program import Uv
from studiolo.environments.uv_resolve import Task
from studiolo.problem import Problem, StudioloError, WrongInput

KERNEL = "ipykernel"

_NOTHING = CondaLock("", ())
_VARIABLES_LIMIT = 1 << 20
# Set for every workspace by Studiolo, so not by a package.
_RESERVED = {"PATH", "HOME", "USER", "LOGNAME", "SHELL"}


class CondaKind:
    """`cache` is Studiolo's cache folder; it should lie on the generations' disk, so that files are shared."""

    name = "conda"
    in_place = True
    exports: tuple[ExportFormat, ...] = ("dockerfile",)
    # RECORD holds the hashes of scripts, whose first line names the interpreter by its path.
    unlike: tuple[str, ...] = ("*/__pycache__/*", "*.dist-info/RECORD", "build.log", "build.json")

    def __init__(self, cache: Path) -> None:
        self._conda = Conda(cache)
        self._uv = Uv(cache)

    def detect(self, folder: Path) -> Detection | None:
        name = conda_file.find(folder)
        return Detection(self.name, f"{name} found", name) if name else None

    def inputs(self, request: Request) -> Mapping[str, str]:
        root, path = _file(request)
        files = (path, *conda_file.read(root, path).included)
        return {
            os.path.relpath(each, root): hashlib.sha256(read_text(root, each).encode()).hexdigest() for each in files
        }

    async def lock(self, request: Request, report: Report) -> Lock:
        root, path = _file(request)
        report(Progress(f"reading {path.name}"))
        declared = await asyncio.to_thread(conda_file.read, root, path)
        asked, problems = wanted_all(request.packages, "environment.packages")
        if problems:
            raise WrongInput(*problems)
        pip = [*declared.pip, *asked]
        specs = _specs(declared, request.python, pip)
        report(Progress(f"resolving {len(specs)} packages of {', '.join(declared.channels)}"))
        former = _former(request)
        moving = request.upgrade.packages if request.upgrade is not None else ()
        kept = former if moving or request.upgrade is None else _NOTHING
        solution = await self._conda.solve(
            declared.channels,
            specs,
            [each for each in kept.packages if each.name not in moving],
            kernel=KERNEL not in {each.name for each in pip},
        )
        found = CondaLock(solution.platform, solution.packages, (), declared.variables)
        indexes = package_index.merged(request.indexes, declared.indexes)
        notes = declared.notes
        if pip:
            task = Task(tuple(pip), declared.constraints, (), kept.pip, moving, indexes)
            pins, more = await conda_pip.lock(self._uv, task, solution.python_packages, found.python, report)
            found, notes = replace(found, pip=pins), notes + more
        _check_moved(moving, found)
        notes += _kernel_notes(found, solution)
        facts: dict[str, Any] = {"source": os.path.relpath(path, root)}
        facts |= package_index.facts(indexes) | ({"notes": list(notes)} if notes else {})
        return Lock(self.name, found.text, found.python, found.platform, facts)

    async def build(self, lock: Lock, folder: Path, report: Report, indexes: Sequence[Index] = ()) -> None:
        await self._build(self._conda, self._uv, lock, folder, report, indexes)

    async def rebuild(self, lock: Lock, folder: Path, report: Report, indexes: Sequence[Index] = ()) -> None:
        with self._uv.scratch() as scratch:
            await self._build(Conda(scratch / "cache"), Uv(scratch / "cache"), lock, folder, report, indexes)

    async def _build(
        self, conda: Conda, uv: Uv, lock: Lock, folder: Path, report: Report, indexes: Sequence[Index]
    ) -> None:
        wanted = _parse(lock)
        log = BuildLog(folder)

        def hear(progress: Progress) -> None:
            log.add(progress.message)
            report(progress)

        report(Progress("downloading packages", 0, len(wanted.packages)))
        await conda.install(wanted.packages, folder, hear, log.add)
        if wanted.pip:
            places = package_index.merged(package_index.remembered(lock.facts), indexes)
            await conda_pip.install(uv, wanted.pip, folder / "bin" / "python", places, report, log.add)

    def activate(self, lock: Lock, folder: Path) -> Activation:
        python = folder / "bin" / "python"
        has_kernel = any(folder.glob(f"lib/python*/site-packages/{KERNEL}/__init__.py"))
        return Activation(
            path=(str(folder / "bin"),),
            env={**_package_variables(folder), **_parse(lock).variables, "CONDA_PREFIX": str(folder)},
            interpreter=str(python) if has_kernel and python.exists() else None,
        )

    def describe(self, lock: Lock, folder: Path | None = None) -> tuple[Package, ...]:
        wanted = _parse(lock)
        licences = _licences(folder) if folder is not None else {}
        found = [
            Package(each.name, each.version, licences.get(("conda", each.name), ""), each.purl)
            for each in wanted.packages
        ]
        found += [
            Package(
                pin.name,
                pin.version or pin.url.rsplit("/", 1)[-1],
                licences.get(("pypi", pin.name), ""),
                python_packages.purl(pin.name, pin.version),
            )
            for pin in wanted.pip
        ]
        return tuple(sorted(found, key=lambda package: package.name))

    async def export(self, lock: Lock, form: ExportFormat, indexes: Sequence[Index] = ()) -> Mapping[str, str]:
        return await asyncio.to_thread(conda_export.dockerfile, _parse(lock))

    async def forget(self, lock: Lock) -> None:
        """All of it lies in its folder."""

    async def close(self) -> None:
        """Nothing goes on after a build."""


def _file(request: Request) -> tuple[Path, Path]:
    """The repository, and the file in it to go by. Raises `WrongInput` where there is none."""
    if request.folder is None:
        raise WrongInput(
            Problem(
                "environment-file-missing",
                "an environment.yml describes a conda environment, and there is no repository that could hold one",
                "name a repository, or leave out environment.kind",
                "environment.kind",
            )
        )
    folder = request.folder / (request.project or "")
    if not folder.resolve().is_relative_to(request.folder.resolve()) or not folder.is_dir():
        raise WrongInput(
            Problem(
                "project-missing",
                f"there is no folder {request.project} in the repository",
                "name a folder that holds an environment.yml",
                "environment.project",
            )
        )
    name = request.file or conda_file.find(folder)
    if name is None or not (folder / name).is_file():
        raise WrongInput(
            Problem(
                "environment-file-missing",
                f"there is no {name or conda_file.NAMES[0]} in {request.project or 'the repository'}",
                "write one, or name another with environment.file",
                "environment.file" if request.file else "environment.kind",
            )
        )
    return request.folder, folder / name


def _specs(declared: CondaFile, python: str | None, pip: Sequence[Wanted]) -> list[Spec]:
    specs = list(declared.specs)
    if python is not None:
        specs.append(Spec(f"python={python}", "environment.python"))
    if pip:
        # As conda does: what pip is to install, it installs for a Python.
        specs.append(Spec("python", pip[0].where))
    return specs


def _former(request: Request) -> CondaLock:
    """What was locked before; nothing where that was of another kind."""
    if request.previous is None or request.previous.kind != CondaKind.name:
        return _NOTHING
    with contextlib.suppress(ValueError):
        return CondaLock.parse(request.previous.text)
    return _NOTHING


def _check_moved(moving: Sequence[str], found: CondaLock) -> None:
    names = {each.name for each in found.packages} | {pin.name for pin in found.pip}
    if unknown := [name for name in moving if name not in names]:
        raise WrongInput(
            Problem(
                "package-not-locked", f"{unknown[0]} is not in this environment", "`studiolo env show` lists what is"
            )
        )


def _parse(lock: Lock) -> CondaLock:
    try:
        return CondaLock.parse(lock.text)
    except ValueError as error:
        raise StudioloError(
            Problem("lock-unreadable", f"the lock cannot be read: {error}", "lock again: `studiolo env update`")
        ) from error


def _kernel_notes(found: CondaLock, solution: Solution) -> tuple[str, ...]:
    if not found.python:
        return ("there is no Python in it, so there is no kernel for notebooks",)
    if KERNEL in {each.name for each in found.packages} | {pin.name for pin in found.pip}:
        return ()
    return (f"there is no kernel for notebooks, because {KERNEL} cannot be added: {solution.kernel}",)


def _package_variables(folder: Path) -> dict[str, str]:
    """Variables that packages bring as plain data, in conda's order."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob("etc/conda/env_vars.d/*.json")):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if path.stat().st_size <= _VARIABLES_LIMIT:
                values = json.loads(path.read_text(encoding="utf-8")).items()
                found |= {
                    name: str(value) for name, value in values if name not in _RESERVED and "\0" not in str(value)
                }
    return found


def _licences(folder: Path) -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    for path in folder.glob("conda-meta/*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            record = json.loads(path.read_text(encoding="utf-8"))
            found["conda", record["name"]] = str(record.get("license") or "")
    for site_packages in folder.glob("lib/python*/site-packages"):
        for name, package in python_packages.installed(site_packages).items():
            found["pypi", name] = package.licence
    return found
