"""Pins made into a folder that holds a Python environment, by uv.

The same pins give the same bytes: uv writes neither times nor the folder's path, scripts find their Python beside
them, what is built from source is told a fixed time, and modules are compiled by their content.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

from studiolo.environments import bytecode, uv_document
from studiolo.environments.build_log import BuildLog
from studiolo.environments.interpreter import Interpreter
from studiolo.environments.kind import Index, Progress, Report
from studiolo.environments.pins import Pin, render
from studiolo.environments.uv_failure import explain, is_disk_full, is_login
from studiolo.environments.uv_program import Uv
from studiolo.environments.uv_settings import Origin
from studiolo.process import ProgramFailed, run

_TIMEOUT = 3600.0
_COMPILE_TIMEOUT = 900.0
_GLANCE = 0.2
_ANYWHERE = ("--index-strategy", "unsafe-best-match")
_SAME_EVERY_TIME = {"SOURCE_DATE_EPOCH": "315532800", "PYTHONHASHSEED": "0"}
"""1980, before which no zip file can be."""


async def install(
    uv: Uv,
    pins: Sequence[Pin],
    interpreter: Interpreter,
    folder: Path,
    report: Report,
    indexes: Sequence[Index],
    origins: Sequence[Origin],
) -> None:
    """Install the pins into the empty `folder`. Raises `StudioloError` (hash-mismatch, index-unreachable, ...).

    Each comes from where it came from when it was locked; where that has it no more, from any of the indexes: the
    hashes decide what is accepted.
    """
    log = BuildLog(folder)
    total = len(pins)

    def hear(line: str) -> None:
        log.add(line)
        if match := re.match(r"\s*(Downloading|Building) (.+)", line):
            report(Progress(f"{match[1].lower()} {match[2]}", 0, total))

    report(Progress("installing packages", 0, total))
    try:
        with uv.scratch() as scratch:
            await uv.run(
                [
                    *("venv", "--relocatable", "--allow-existing", "--no-project", "--no-python-downloads"),
                    *("--python", interpreter.path, folder),
                ],
                cwd=scratch,
                timeout=_TIMEOUT,
                on_line=log.add,
            )
            work = scratch / "wanted"
            work.mkdir()
            document = uv_document.write(work, [pin.head for pin in pins], indexes, origins)
            hashes = work / "hashes.txt"
            hashes.write_text(render(pins), encoding="utf-8")
            arguments: list[str | Path] = [
                # no-deps: the lock is all of it, and may be right where a package's own word is not
                *("pip", "install", "--require-hashes", "--no-deps", "--python", folder / "bin" / "python"),
                *("--requirements", document, "--constraints", hashes),
            ]

            async def attempt(*more: str) -> None:
                await uv.run(
                    [*arguments, *more],
                    cwd=work,
                    timeout=_TIMEOUT,
                    on_line=hear,
                    env=_SAME_EVERY_TIME,
                    indexes=indexes,
                )

            watch = asyncio.create_task(_count(folder, total, report))
            try:
                if await _from_cache(uv, arguments, work, indexes, log):
                    return
                try:
                    await attempt()
                except ProgramFailed as error:
                    again = _second_try(error, bool(indexes))
                    if again is None:
                        raise
                    await attempt(*again)
            finally:
                watch.cancel()
                await asyncio.gather(watch, return_exceptions=True)
    except ProgramFailed as error:
        raise explain(error, {}) from error


async def compile_modules(uv: Uv, folder: Path) -> None:
    """Compile all modules, politely: a person is already starting a notebook meanwhile.

    It takes four times as long as installing where nothing was compiled before, and what is imported before its turn
    compiles itself. It may be killed at any time. The program's working folder stays the same while the generation is
    renamed.
    """
    argv: list[str | Path] = [folder / "bin" / "python", "-I", "-S", "-W", "ignore", bytecode.__file__, uv.bytecode]
    with contextlib.suppress(ProgramFailed):
        await run(argv, cwd=folder, env=_SAME_EVERY_TIME, timeout=_COMPILE_TIMEOUT, check=False, background=True)


async def _from_cache(
    uv: Uv, arguments: Sequence[str | Path], work: Path, indexes: Sequence[Index], log: BuildLog
) -> bool:
    """Install without asking any index, if all files were downloaded before: whether they were. The hashes are the
    lock's, so there is nothing to ask for; without a network it is the only way."""
    try:
        done = await uv.run(
            [*arguments, "--offline"], cwd=work, timeout=_TIMEOUT, env=_SAME_EVERY_TIME, indexes=indexes
        )
    except ProgramFailed as error:
        if error.completed is None or is_disk_full(error.completed.output):
            raise
        return False
    for line in done.output.splitlines():
        log.add(line)
    return True


def _second_try(error: ProgramFailed, choice: bool) -> tuple[str, ...] | None:
    """What may help where the first try did not; `choice`: there are several indexes to look in."""
    output = error.completed.output if error.completed else ""
    if "there is no version of" in output:
        # The lock may name what was released a moment ago, which a remembered index does not know yet.
        return ("--refresh", *(_ANYWHERE if choice else ()))
    moved = "Hash mismatch" in output or ("was not found in" in output and not is_login(output))
    return _ANYWHERE if choice and moved else None


async def _count(folder: Path, total: int, report: Report) -> None:
    """Tell how many packages have been installed, as they appear."""
    seen = 0
    while seen < total:
        await asyncio.sleep(_GLANCE)
        now = sum(1 for _ in folder.glob("lib/python*/site-packages/*.dist-info"))
        if now > seen:
            seen = now
            report(Progress("installing packages", min(seen, total), total))
