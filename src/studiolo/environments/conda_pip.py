"""The pip section of a conda environment: locked by hash and installed by uv, beside what conda brings.

What conda has installed counts as installed, as it does for pip: such a package is neither fetched nor replaced, and
what does not fit its version cannot be had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from studiolo.environments import uv_document
from studiolo.environments.interpreter import Interpreters
from studiolo.environments.kind import Index, Progress, Report
from studiolo.environments.pins import Pin, render
from studiolo.environments.uv_failure import explain
from studiolo.environments.uv_program import Uv
from studiolo.environments.uv_resolve import Task, resolve
from studiolo.process import ProgramFailed

_INSTALL_TIMEOUT = 3600.0
_SAME_EVERY_TIME = {"SOURCE_DATE_EPOCH": "315532800", "PYTHONHASHSEED": "0"}
"""For what is built from source: 1980, before which no zip file can be."""
# Where conda and the package index have different names for what is the same to Python.
_OTHER_NAMES = {"matplotlib-base": "matplotlib", "pytorch": "torch"}


async def lock(
    uv: Uv, task: Task, installed: Mapping[str, str], python: str, report: Report
) -> tuple[tuple[Pin, ...], tuple[str, ...]]:
    """What `task` asks for beside `installed` (conda's Python packages: version by name), for Python `python`; and
    what a person should know of that. Raises `StudioloError` (package-not-found, packages-conflict, ...)."""
    interpreter = await Interpreters(uv).choose(None, lambda: None)
    named = ((canonicalize_name(_OTHER_NAMES.get(name, name)), version) for name, version in installed.items())
    fixed = tuple(Pin(name, version) for name, version in named if _is_version(version))
    pins, notes = await resolve(uv, replace(task, pins=fixed), replace(interpreter, version=python), report)
    present = {pin.name for pin in fixed}
    return tuple(pin for pin in pins if pin.name not in present), notes


async def install(
    uv: Uv,
    pins: Sequence[Pin],
    python: Path,
    indexes: Sequence[Index],
    report: Report,
    log: Callable[[str], None],
) -> None:
    """Install exactly `pins` for the interpreter `python`. Raises `StudioloError` (hash-mismatch, ...)."""
    total = len(pins)
    report(Progress("installing the pip section", 0, total))
    with uv.scratch() as scratch:
        uv_document.configure(scratch, indexes)
        requirements = scratch / "requirements.txt"
        requirements.write_text(render(pins), encoding="utf-8")
        try:
            await uv.run_with_cache(
                [
                    # no-deps: the lock is all of it, and conda's packages are there already
                    *("pip", "install", "--require-hashes", "--no-deps", "--no-python-downloads"),
                    *("--python", python, "--requirements", requirements),
                    # the hashes decide what is accepted, so a file may come from any of the indexes
                    *(("--index-strategy", "unsafe-best-match") if indexes else ()),
                ],
                cwd=scratch,
                timeout=_INSTALL_TIMEOUT,
                env=_SAME_EVERY_TIME,
                indexes=indexes,
                on_line=log,
                unreachable=lambda: report(
                    Progress("the package index cannot be reached; using what was downloaded before", 0, total)
                ),
            )
        except ProgramFailed as error:
            raise explain(error, {}) from error
    report(Progress("installed the pip section", total, total))


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True
