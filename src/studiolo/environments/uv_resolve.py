"""Requirements that leave a choice, made into pins by uv."""

from __future__ import annotations

import re
from dataclasses import dataclass

from studiolo.environments import uv_document
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
    """The pins and whatever else is wanted beside them, and what a person should know of that. The interpreter only
    helps: it may be of another version than `interpreter.version`, which is what is resolved for.

    Hashes that somebody wrote down are kept. Each package is taken from the first index that has it, so that nobody
    can slip in a newer version elsewhere. Raises `StudioloError` (package-not-found, packages-conflict, ...).
    """
    report(Progress(f"resolving {len(task.wanted)} requirements"))
    with uv.scratch() as scratch:
        folder = scratch / "wanted"
        folder.mkdir()
        document = uv_document.write(folder, [each.text for each in task.wanted], task.indexes, task.origins)
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
                    *("--no-python-downloads", "--python", interpreter.path, "--python-version", interpreter.version),
                    *("--constraints", "limits.in"),
                    *(f"--upgrade-package={name}" for name in task.moving),
                    *("--output-file", output, document),
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


def _notes(output: str) -> tuple[str, ...]:
    return tuple(
        f"{name.replace('==', ' ')} has been withdrawn by its makers (yanked{f': {reason}' if reason else ''})"
        for name, reason in _YANKED.findall(output)
    )
