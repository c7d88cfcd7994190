"""Requirements that leave a choice, made into pins by uv."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from studiolo.environments import package_index
from studiolo.environments.interpreter import Interpreter
from studiolo.environments.kind import Index, Progress, Report
from studiolo.environments.pins import Pin, parse, render
from studiolo.environments.requirement import Wanted
from studiolo.environments.uv_failure import explain
from studiolo.environments.uv_program import Uv
from studiolo.environments.uv_settings import Origin
from studiolo.process import ProgramFailed

_TIMEOUT = 900.0
_YANKED = re.compile(r"^warning: `(\S+)` is yanked(?: \(reason: \"(.*)\"\))?", re.MULTILINE)
_PROJECT = "this-environment"
"""What uv calls in its explanations what everything is asked for by."""


@dataclass(frozen=True)
class Task:
    """What is to be resolved. `pins` are fixed; `preferred` are kept as long as they fit, but for those in `moving`."""

    wanted: tuple[Wanted, ...]
    constraints: tuple[Wanted, ...] = ()
    pins: tuple[Pin, ...] = ()
    preferred: tuple[Pin, ...] = ()
    moving: tuple[str, ...] = ()
    indexes: tuple[Index, ...] = ()
    origins: tuple[Origin, ...] = ()


async def resolve(
    uv: Uv, task: Task, interpreter: Interpreter, report: Report
) -> tuple[tuple[Pin, ...], tuple[str, ...]]:
    """The pins and whatever else is wanted beside them, and what a person should know of that.

    Hashes that somebody wrote down are kept. Each package is taken from the first index that has it, so that nobody
    can slip in a newer version elsewhere. Raises `StudioloError` (package-not-found, packages-conflict, ...).
    """
    report(Progress(f"resolving {len(task.wanted)} requirements"))
    with uv.scratch() as scratch:
        folder = scratch / "wanted"
        folder.mkdir()
        (folder / "pyproject.toml").write_text(tomli_w.dumps(_document(task)), encoding="utf-8")
        limits = [f"{each.text}\n" for each in task.constraints]
        limits += [f"{pin.name}=={pin.version}\n" for pin in task.pins if pin.version]
        (folder / "limits.in").write_text("".join(limits), encoding="utf-8")
        output = folder / "resolved.txt"
        if task.preferred:  # what is in the output file already, uv keeps where it can
            output.write_text(render(pin for pin in task.preferred if pin.version), encoding="utf-8")
        try:
            done = await uv.run_with_cache(
                [
                    *("pip", "compile", "--generate-hashes", "--no-header", "--no-annotate"),
                    *("--no-python-downloads", "--python", interpreter.path, "--constraints", "limits.in"),
                    *(f"--upgrade-package={name}" for name in task.moving),
                    *("--output-file", output, "pyproject.toml"),
                ],
                cwd=folder,
                timeout=_TIMEOUT,
                indexes=task.indexes,
                unreachable=lambda: report(
                    Progress("the package index cannot be reached; using what was downloaded before")
                ),
            )
        except ProgramFailed as error:
            raise explain(error, {each.name: each.where for each in task.wanted}) from error
        resolved = parse(output.read_text(encoding="utf-8"), interpreter.version)
    known = {pin.name: pin for pin in task.pins}
    written = {each.name: each.hashes for each in task.wanted if each.hashes}
    for pin in resolved:
        known.setdefault(pin.name, Pin(pin.name, pin.version, pin.url, written.get(pin.name, pin.hashes)))
    return tuple(known[name] for name in sorted(known)), _notes(done.output)


def configure(folder: Path, indexes: Sequence[Index]) -> None:
    """Have uv, run in `folder`, know these indexes beside the machine's own."""
    (folder / "uv.toml").write_text(tomli_w.dumps({"index": package_index.table(indexes)}), encoding="utf-8")


def _document(task: Task) -> dict[str, Any]:
    """A pyproject.toml that asks for the same: only there can a package be bound to an index."""
    tables = package_index.table(task.indexes)
    bound = {index.url: name for name, index in package_index.named(task.indexes)}
    sources: dict[str, list[dict[str, str]]] = {}
    for origin in task.origins:
        if origin.url not in bound:
            bound[origin.url] = f"studiolo-only-{len(bound)}"
            tables.append({"name": bound[origin.url], "url": origin.url, "explicit": True})
        entry = {"index": bound[origin.url], **({"marker": origin.marker} if origin.marker else {})}
        sources.setdefault(origin.package, []).append(entry)
    return {
        "project": {"name": _PROJECT, "version": "0", "dependencies": [each.text for each in task.wanted]},
        "tool": {"uv": {"index": tables, "sources": sources}},
    }


def _notes(output: str) -> tuple[str, ...]:
    return tuple(
        f"{name.replace('==', ' ')} has been withdrawn by its makers (yanked{f': {reason}' if reason else ''})"
        for name, reason in _YANKED.findall(output)
    )
