"""Environments of Python packages: locked by hash and built by uv.

The lock is a hashed requirements text. What the repository has locked is taken as it is, with its own hashes;
what it leaves open is resolved when `lock` is called. Like `uv sync`, it includes the development group, because a
workspace is where development happens, and unlike it leaves the repository's own package out: its source is at hand.
There is no pip inside: a generation is immutable, and packages are added by asking for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from studiolo.environments import uv_lockfile, uv_sources
from studiolo.environments.build_log import BuildLog
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
from studiolo.environments.pins import Pin, parse, render
from studiolo.environments.repository_file import read_text
from studiolo.environments.requirement import Wanted
from studiolo.environments.uv_program import Uv, explain
from studiolo.problem import Problem, StudioloError, WrongInput
from studiolo.process import ProgramFailed, run

DEFAULT_PACKAGES = ("pandas", "scikit-learn", "matplotlib")
KERNEL = "ipykernel"

_RESOLVE_TIMEOUT = 900.0
_INSTALL_TIMEOUT = 3600.0
_COMPILE_TIMEOUT = 900.0
_GLANCE = 0.2


class UvKind:
    """`cache` is Studiolo's cache folder; it should lie on the generations' disk, so that files are shared."""

    name = "uv"
    in_place = False
    exports: tuple[ExportFormat, ...] = ("requirements",)
    unlike: tuple[str, ...] = ("*/__pycache__/*", "build.log", "build.json")

    def __init__(self, cache: Path) -> None:
        self._uv = Uv(cache)
        self._interpreters = Interpreters(self._uv)
        self._compiling: set[asyncio.Task[None]] = set()

    def detect(self, folder: Path) -> Detection | None:
        name = uv_sources.find(folder)
        return Detection(self.name, f"{name} found", name) if name else None

    def inputs(self, request: Request) -> Mapping[str, str]:
        root, folder = _folders(request)
        name = uv_sources.find(folder) if folder else None
        if root is None or folder is None or name is None:
            return {}
        files = [folder / each for each in (name, "pyproject.toml", ".python-version")]
        return {
            os.path.relpath(path, root): hashlib.sha256(read_text(root, path).encode()).hexdigest()
            for path in files
            if path.is_file()
        }

    async def lock(self, request: Request, report: Report) -> Lock:
        root, folder = _folders(request)
        name = uv_sources.find(folder) if folder else None
        if root and folder and request.python is None:
            wish = uv_sources.python_wish(root, folder)
        else:
            wish = Wish(request.python, "environment.python") if request.python else None
        interpreter = await self._interpreters.choose(
            wish, lambda: report(Progress(f"downloading Python {wish.text if wish else ''}"))
        )
        asked = _asked(request.packages)
        facts: dict[str, Any] = {"source": name or ("packages" if asked else "default")}
        pins: tuple[Pin, ...] = ()
        declared = uv_sources.Declared(())
        if name == "uv.lock" and root and folder:
            report(Progress("reading uv.lock"))
            pins = await uv_lockfile.export(self._uv, root, folder, interpreter)
            if indexes := uv_lockfile.indexes(root, folder):
                facts["indexes"] = list(indexes)
        elif name and root and folder:
            declared = uv_sources.read(root, folder, name)
            if declared.locked:
                pins = parse("".join(f"{_line(each)}\n" for each in declared.wanted), interpreter.version)
                declared = uv_sources.Declared((), declared.constraints)
        elif not asked:
            asked = [Wanted.parse(each, "the default environment") for each in DEFAULT_PACKAGES]
        wanted = [*declared.wanted, *asked]
        if KERNEL not in {each.name for each in wanted} | {pin.name for pin in pins}:
            wanted.append(Wanted.parse(KERNEL, "Studiolo, for notebooks"))
        if wanted:
            pins = await self._resolve(wanted, declared.constraints, pins, interpreter, report)
        return Lock(self.name, render(pins), interpreter.version, sysconfig.get_platform(), facts)

    async def build(self, lock: Lock, folder: Path, report: Report, indexes: Sequence[Index] = ()) -> None:
        pins = parse(lock.text)
        log = BuildLog(folder)
        total = len(pins)
        interpreter = await self._interpreters.choose(
            Wish(lock.interpreter, ""), lambda: report(Progress(f"downloading Python {lock.interpreter}"))
        )

        def hear(line: str) -> None:
            log.add(line)
            if match := re.match(r"\s*(Downloading|Building) (.+)", line):
                report(Progress(f"{match[1].lower()} {match[2]}", 0, total))

        def unreachable() -> None:
            report(Progress("the package index cannot be reached; using what was downloaded before", 0, total))

        python = folder / "bin" / "python"
        report(Progress("installing packages", 0, total))
        try:
            with self._uv.scratch() as scratch:
                await self._uv.run(
                    [
                        *("venv", "--relocatable", "--allow-existing", "--no-project", "--no-python-downloads"),
                        *("--python", interpreter.path, folder),
                    ],
                    cwd=scratch,
                    timeout=_INSTALL_TIMEOUT,
                    on_line=log.add,
                )
                requirements = scratch / "requirements.txt"
                requirements.write_text(lock.text, encoding="utf-8")
                watch = asyncio.create_task(_count(folder, total, report))
                try:
                    arguments: list[str | Path] = [
                        # no-deps: the lock is all of it, and may be right where a package's own word is not
                        *("pip", "install", "--require-hashes", "--no-deps", "--python", python),
                        *_index_arguments(lock),
                        *("--requirements", requirements),
                    ]

                    async def install(*more: str) -> None:
                        await self._uv.run_with_cache(
                            [*arguments, *more],
                            cwd=scratch,
                            timeout=_INSTALL_TIMEOUT,
                            on_line=hear,
                            unreachable=unreachable,
                        )

                    try:
                        await install()
                    except ProgramFailed as error:
                        # The lock may name what was released a moment ago, which a remembered index does not know yet.
                        if error.completed is None or "there is no version of" not in error.completed.output:
                            raise
                        await install("--refresh")
                finally:
                    watch.cancel()
                    await asyncio.gather(watch, return_exceptions=True)
        except ProgramFailed as error:
            raise explain(error, {}) from error
        task = asyncio.create_task(_compile(folder, python), name="compile Python files")
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

    async def export(self, lock: Lock, form: ExportFormat) -> Mapping[str, str]:
        return {"requirements.txt": lock.text}

    def describe(self, lock: Lock, folder: Path | None = None) -> tuple[Package, ...]:
        return tuple(Package(pin.name, pin.version or pin.url.rsplit("/", 1)[-1]) for pin in parse(lock.text))

    async def _resolve(
        self,
        wanted: list[Wanted],
        constraints: Iterable[Wanted],
        pins: tuple[Pin, ...],
        interpreter: Interpreter,
        report: Report,
    ) -> tuple[Pin, ...]:
        """`pins` and whatever else `wanted` needs beside them. Hashes that somebody wrote down are kept."""
        report(Progress(f"resolving {len(wanted)} requirements"))
        with self._uv.scratch() as scratch:
            (scratch / "wanted.in").write_text("".join(f"{each.text}\n" for each in wanted), encoding="utf-8")
            limits = [f"{each.text}\n" for each in constraints] + [
                f"{pin.name}=={pin.version}\n" for pin in pins if pin.version
            ]
            (scratch / "limits.in").write_text("".join(limits), encoding="utf-8")
            output = scratch / "resolved.txt"
            try:
                await self._uv.run_with_cache(
                    [
                        *("pip", "compile", "--generate-hashes", "--no-header", "--no-annotate", "--quiet"),
                        *("--no-python-downloads", "--python", interpreter.path),
                        *("--constraints", "limits.in", "--output-file", output, "wanted.in"),
                    ],
                    cwd=scratch,
                    timeout=_RESOLVE_TIMEOUT,
                    unreachable=lambda: report(
                        Progress("the package index cannot be reached; using what was downloaded before")
                    ),
                )
            except ProgramFailed as error:
                raise explain(error, {each.name: each.where for each in wanted}) from error
            resolved = parse(output.read_text(encoding="utf-8"), interpreter.version)
        known = {pin.name: pin for pin in pins}
        written = {each.name: each.hashes for each in wanted if each.hashes}
        for pin in resolved:
            known.setdefault(pin.name, Pin(pin.name, pin.version, pin.url, written.get(pin.name, pin.hashes)))
        return tuple(known[name] for name in sorted(known))


async def _compile(folder: Path, python: Path) -> None:
    """Compile all modules in the background, politely: a person is already starting a notebook meanwhile.

    It takes four times as long as installing, and what is imported before its turn compiles itself. It may be killed
    at any time. The program's working folder stays the same while the generation is renamed, so all paths are
    relative to it. What does not compile (a template, another Python's syntax) is nobody's mistake; tests are left
    out, being half of the time.
    """
    argv = [str(python), "-I", "-S", "-m", "compileall", "-q", "-j", "1", "-x", "/tests?/", "lib"]
    with contextlib.suppress(ProgramFailed):
        await run(argv, cwd=folder, env={}, timeout=_COMPILE_TIMEOUT, check=False, background=True)


async def _count(folder: Path, total: int, report: Report) -> None:
    """Tell how many packages have been installed, as they appear."""
    seen = 0
    while seen < total:
        await asyncio.sleep(_GLANCE)
        now = sum(1 for _ in folder.glob("lib/python*/site-packages/*.dist-info"))
        if now > seen:
            seen = now
            report(Progress("installing packages", min(seen, total), total))


def _folders(request: Request) -> tuple[Path | None, Path | None]:
    """The repository, and the folder in it that the environment is declared in."""
    if request.folder is None or request.project is None:
        return request.folder, request.folder
    folder = request.folder / request.project
    if not folder.resolve().is_relative_to(request.folder.resolve()) or not folder.is_dir():
        raise WrongInput(
            Problem(
                "project-missing",
                f"there is no folder {request.project} in the repository",
                "name a folder that holds a pyproject.toml or requirements.txt",
                "environment.project",
            )
        )
    if uv_sources.find(folder) is None:
        raise WrongInput(
            Problem(
                "project-missing",
                f"{request.project} holds no uv.lock, requirements.lock, pyproject.toml with dependencies "
                "or requirements.txt",
                "name a folder that does",
                "environment.project",
            )
        )
    return request.folder, folder


def _asked(packages: Iterable[str]) -> list[Wanted]:
    found: list[Wanted] = []
    problems: list[Problem] = []
    for index, text in enumerate(packages):
        try:
            found.append(Wanted.parse(text, f"environment.packages[{index}]"))
        except StudioloError as error:
            problems.extend(error.problems)
    if problems:
        raise WrongInput(*problems)
    return found


def _line(wanted: Wanted) -> str:
    return " ".join([wanted.text, *(f"--hash={each}" for each in wanted.hashes)])


def _index_arguments(lock: Lock) -> list[str]:
    """Further places to download from. The hashes decide what is accepted, so any place will do."""
    urls = [str(url) for url in lock.facts.get("indexes", ())]
    return [*(f"--index={url}" for url in urls), "--index-strategy", "unsafe-best-match"] if urls else []
