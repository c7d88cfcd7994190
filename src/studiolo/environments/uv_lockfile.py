"""A repository's uv.lock as pins, through uv itself, in a copy: the repository is never written to."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

from studiolo.environments.interpreter import Interpreter
from studiolo.environments.pins import Pin, parse
from studiolo.environments.repository_file import read_text, read_toml
from studiolo.environments.uv_program import Uv, explain, quote
from studiolo.problem import Problem, WrongInput
from studiolo.process import ProgramFailed

_TIMEOUT = 120.0
_MEMBERS = 500


async def export(uv: Uv, root: Path, project: Path, interpreter: Interpreter) -> tuple[Pin, ...]:
    """What `uv sync` would install for this Python, the development group included, local packages left out.

    The lock is taken as it is (`--frozen`), even where pyproject.toml has moved on: what somebody locked is what
    they get. Needs no network. Raises `WrongInput` for a lock that is broken or holds what cannot be hashed.
    """
    shown = str((project / "uv.lock").relative_to(root))
    with uv.scratch() as scratch:
        for name in ("pyproject.toml", "uv.lock"):
            (scratch / name).write_text(read_text(root, project / name), encoding="utf-8")
        for member in _members(project, read_toml(root, project / "pyproject.toml")):
            copy = scratch / member.relative_to(project)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(read_text(root, member), encoding="utf-8")
        output = scratch / "exported.txt"
        try:
            await uv.run(
                [
                    *("export", "--frozen", "--offline", "--no-python-downloads", "--python", interpreter.path),
                    *("--format", "requirements-txt", "--no-header", "--no-annotate", "--no-emit-local"),
                    *("--output-file", output, "--quiet"),
                ],
                cwd=scratch,
                timeout=_TIMEOUT,
            )
        except ProgramFailed as error:
            if error.completed is None:
                raise
            known = explain(error, {})
            if known.problem.code == "disk-full":
                raise known from error
            raise WrongInput(
                Problem(
                    "lock-unreadable",
                    f"uv cannot read it: {quote(error.completed.output).replace(str(scratch), '.')}",
                    "run `uv lock` in the repository and commit the result",
                    shown,
                )
            ) from error
        text = output.read_text(encoding="utf-8")
    try:
        pins = parse(text, interpreter.version)
    except ValueError as error:
        raise WrongInput(Problem("lock-unreadable", f"it cannot be used: {error}", "", shown)) from error
    unhashed = [_unhashed(pin, shown) for pin in pins if not pin.hashes]
    if unhashed:
        raise WrongInput(*unhashed)
    return pins


def indexes(root: Path, project: Path) -> tuple[str, ...]:
    """Further indexes that pyproject.toml names, such as PyTorch's: where files may lie whose hashes are locked."""
    tool = read_toml(root, project / "pyproject.toml").get("tool", {})
    found: Any = tool.get("uv", {}).get("index", []) if isinstance(tool, dict) else []
    urls = [each.get("url", "") for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    return tuple(url for url in urls if isinstance(url, str) and re.fullmatch(r"https://[^/@\s]+/[^@\s]*", url))


def _members(project: Path, document: dict[str, Any]) -> list[Path]:
    """The pyproject.toml files of a workspace: uv wants to see them beside the lock."""
    try:
        patterns = document["tool"]["uv"]["workspace"]["members"]
        found = itertools.chain.from_iterable(project.glob(f"{pattern}/pyproject.toml") for pattern in patterns)
        return [path for path in itertools.islice(found, _MEMBERS) if ".." not in path.parts]
    except (KeyError, TypeError, ValueError, NotImplementedError):
        return []


def _unhashed(pin: Pin, where: str) -> Problem:
    return Problem(
        "requirement-unsupported",
        f"{pin.name} is locked without a hash, as code from version control is, so it cannot be rebuilt exactly",
        "use a released version of it, or a wheel by its https address",
        where,
    )
