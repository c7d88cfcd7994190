"""A lock that uv wrote (uv.lock, or `script.py.lock`) as pins, through uv itself, in a copy: the repository is never
written to."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

from studiolo.environments import package_index, uv_script, uv_settings
from studiolo.environments.interpreter import Interpreter
from studiolo.environments.pins import Pin, parse
from studiolo.environments.repository_file import read_text, read_toml
from studiolo.environments.uv_failure import explain, quote
from studiolo.environments.uv_program import Uv
from studiolo.environments.uv_settings import Settings
from studiolo.problem import Problem, WrongInput
from studiolo.process import ProgramFailed

_TIMEOUT = 120.0
_MEMBERS = 500


async def export(uv: Uv, root: Path, path: Path, interpreter: Interpreter) -> tuple[Pin, ...]:
    """What `uv sync` would install for this Python, the development group included, local packages left out.

    `path` is the uv.lock, or the script that has a lock. It is taken as it is (`--frozen`), even where pyproject.toml
    has moved on: what somebody locked is what they get. Needs no network. Raises `WrongInput` for a lock that is broken
    or holds what cannot be hashed.
    """
    shown = os.path.relpath(_lock(path), root)
    with uv.scratch() as scratch:
        for each in files(root, path):
            copy = scratch / each.relative_to(path.parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(read_text(root, each), encoding="utf-8")
        output = scratch / "exported.txt"
        try:
            await uv.run(
                [
                    *("export", "--frozen", "--offline", "--no-python-downloads", "--python", interpreter.path),
                    *("--format", "requirements-txt", "--no-header", "--no-annotate", "--no-emit-local"),
                    *(("--script", scratch / path.name) if path.name.endswith(".py") else ()),
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
                    f"run `{command(path)}` in the repository and commit the result",
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


def files(root: Path, path: Path) -> tuple[Path, ...]:
    """All that `export` reads: the lock, and what it was made from."""
    if path.name.endswith(".py"):
        return (path, _lock(path))
    project = path.with_name("pyproject.toml")
    members = _members(path.parent, read_toml(root, project))
    return tuple(dict.fromkeys((path, project, *members)))


def settings(root: Path, path: Path) -> Settings:
    """Further indexes that these files name, such as PyTorch's, and what is bound to them."""
    if path.name.endswith(".py"):
        return uv_settings.places(uv_script.metadata(root, path))
    found = [uv_settings.places(read_toml(root, each)) for each in files(root, path) if each.name == "pyproject.toml"]
    return Settings(
        package_index.merged(*(each.indexes for each in found)),
        tuple(dict.fromkeys(origin for each in found for origin in each.origins)),
    )


def command(path: Path, upgrade: str = "") -> str:
    """What a person types to lock anew."""
    return f"uv lock{upgrade}" + (f" --script {path.name}" if path.name.endswith(".py") else "")


def _lock(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock") if path.name.endswith(".py") else path


def _members(project: Path, document: dict[str, Any]) -> list[Path]:
    """The pyproject.toml files of a workspace: uv wants to see them beside the lock."""
    try:
        patterns = document["tool"]["uv"]["workspace"]["members"]
        found = itertools.chain.from_iterable(project.glob(f"{pattern}/pyproject.toml") for pattern in patterns)
        return sorted(path for path in itertools.islice(found, _MEMBERS) if ".." not in path.parts)
    except (KeyError, TypeError, ValueError, NotImplementedError):
        return []


def _unhashed(pin: Pin, where: str) -> Problem:
    return Problem(
        "requirement-unsupported",
        f"{pin.name} is locked without a hash, as code from version control is, so it cannot be rebuilt exactly",
        "use a released version of it, or a wheel by its https address",
        where,
    )
